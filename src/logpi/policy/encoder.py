"""From what an environment shows to a vector of features: pictures through convolutions, all else as it is."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from logpi.errors import LogpiError
from logpi.layout import Piece, Seen, channels_last, sides
from logpi.policy.networks import Build, Layers, mlp, orthogonal, trunk

SMALLEST = 36  # pixels a side that the convolutions of `nature` need
MANY = 128  # pictures at once, from which on a convolution of their size is faster than a product
PIECE = 256  # pictures that go through at once where no gradient needs them: what they leave behind stays in the cache


class Residual(nn.Module):
    """x + conv(relu(conv(relu(x)))) (Espeholt et al. 2018, figure 3)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(_conv(channels, channels, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.convs[1](self.convs[0](x.relu()).relu())


class Flat(nn.Linear):
    """A linear layer of all that pictures hold, [N, C, H, W] -> [N, features].

    Of many on a CPU it is a convolution of their size: oneDNN's runs at twice the speed of MKL's product on AMD's processors.
    """

    def forward(self, x: Tensor) -> Tensor:
        many = not torch.compiler.is_compiling() and len(x) >= MANY
        if not many or x.dtype != torch.float32 or x.device.type != "cpu":
            return super().forward(x.flatten(1))
        weight = self.weight.unflatten(1, x.shape[1:]).contiguous(memory_format=torch.channels_last)
        return conv2d(x, weight, self.bias).flatten(1)


def nature(channels: int) -> list[nn.Module]:
    """32 8x8/4, 64 4x4/2, 64 3x3/1 (Mnih et al. 2015)."""
    first, second, third = _conv(channels, 32, 8, 4), _conv(32, 64, 4, 2), _conv(64, 64, 3)
    return [first, nn.ReLU(), second, nn.ReLU(), third, nn.ReLU()]


def impala(channels: int) -> list[nn.Module]:
    """Three times a convolution, a pooling and two residual blocks, of 16, 32, 32 channels (Espeholt et al. 2018)."""
    layers: list[nn.Module] = []
    for n_in, n_out in ((channels, 16), (16, 32), (32, 32)):
        layers += [_conv(n_in, n_out, 3, padding=1), nn.MaxPool2d(3, 2, 1), Residual(n_out), Residual(n_out)]
    return [*layers, nn.ReLU()]


def small(channels: int) -> list[nn.Module]:
    """16, 32, 64 2x2 for a picture of few pixels, as of a grid world."""
    first, second, third = _conv(channels, 16, 2), _conv(16, 32, 2), _conv(32, 64, 2)
    return [first, nn.ReLU(), second, nn.ReLU(), third, nn.ReLU()]


PICTURES = {"nature": (nature, 512), "impala": (impala, 256), "small": (small, 64)}  # layers, features


class Picture(nn.Module):
    """[N, *shape] of 0 to 255 (floats: as they are) -> [N, features]; the pictures of a stack are its channels."""

    def __init__(self, space: Any, kind: str) -> None:
        super().__init__()
        shape, self.bf16 = tuple(space.shape), False
        self.shape, self.scale = shape, 1 / 255 if space.dtype.kind == "u" else 1.0
        if len(shape) > 2 and shape[-3] == shape[-1]:
            raise LogpiError(
                f"Pictures of {shape} may have their channels first or last: show another number of them, or, as plain numbers,"
                " --wrap gymnasium.wrappers:FlattenObservation."
            )
        self.last = len(shape) > 2 and channels_last(shape)
        high, wide = sides(shape)
        channels = math.prod(shape) // (high * wide)
        self.planes = (channels, high, wide)
        if kind == "auto":
            kind = "nature" if min(high, wide) >= SMALLEST else "small"
        if kind == "nature" and min(high, wide) < SMALLEST:
            raise LogpiError(f"The nature network needs pictures of {SMALLEST} pixels a side, not {shape}: use small.")
        layers, self.width = PICTURES[kind]
        convolutions = Layers(*layers(channels), nn.Identity())  # checkpoints name what follows by its place
        with torch.no_grad():
            flat = convolutions(torch.zeros(1, channels, high, wide)).numel()
        self.body: Any = convolutions.append(orthogonal(Flat(flat, self.width), math.sqrt(2))).append(nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        x = x.reshape(-1, *self.shape)
        if not (torch.is_grad_enabled() or torch.compiler.is_compiling()) and len(x) > PIECE:
            return torch.cat([self(part) for part in x.split(PIECE)])
        x = (x.movedim(-1, -3) if self.last else x).reshape(-1, *self.planes)
        x = x.contiguous(
            memory_format=torch.channels_last
        )  # in which convolutions on a CPU take two thirds of the time
        x = x.to(self.body[-2].weight) * self.scale
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bf16):
            return self.body(x).to(x.dtype)


class Encoder(nn.Module):
    """An observation [..., *shape] -> features [..., size]: its pictures', then its numbers and choices. A mask is left out."""

    others: Tensor

    def __init__(self, seen: Seen, kind: str) -> None:
        super().__init__()
        self.axes, self.plain = len(seen.shape), seen.plain
        self.places = [(piece.begin, piece.end) for piece in seen.of("picture")]
        self.pictures = nn.ModuleList(Picture(piece.space, kind) for piece in seen.of("picture"))
        others = [piece for piece in seen.pieces if piece.kind in ("numbers", "choice")]
        self.register_buffer("others", torch.cat([*map(_places, others), torch.zeros(0, dtype=torch.long)]), False)
        widths: list[Any] = [p.width for p in self.pictures]
        self.size = sum(widths) + len(self.others)

    def forward(self, obs: Tensor) -> Tensor:
        lead = obs.shape[: obs.dim() - self.axes]
        if self.plain:
            return self.pictures[0](obs).reshape(*lead, -1)
        found = [p(obs[..., begin:end]) for p, (begin, end) in zip(self.pictures, self.places, strict=True)]
        return torch.cat([*(x.reshape(*lead, -1) for x in found), obs[..., self.others]], -1)


class Scaled(nn.Module):
    """Pictures of 0 to 255 as floats of 0 to 1, for a network of the user's."""

    unit: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("unit", torch.tensor(1 / 255), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x.to(self.unit.dtype) * self.unit


def front(seen: Seen, kind: str) -> tuple[list[nn.Module], int, bool]:
    """(what stands before an MLP, how many numbers it gives, whether these are features already: of a picture alone)."""
    if not (seen.of("picture") or seen.of("mask")):
        return [], seen.shape[0], False
    made = Encoder(seen, kind)
    return [made], made.size, len(seen.pieces) == 1


def trunk_for(seen: Seen, hidden: Sequence[int], kind: str, own: Build | None) -> tuple[nn.Module, int]:
    """(the part that policy and critic share, its width); own: the user's."""
    if own is not None:
        before, inputs = _before(seen)
        width = hidden[-1] if hidden else math.prod(seen.shape)
        return Layers(*before, own(inputs, width)) if before else own(inputs, width), width
    before, size, done = front(seen, kind)
    layers = () if done else hidden
    return Layers(*before, *trunk(size, layers)), layers[-1] if layers else size


def network_for(seen: Seen, outputs: int, hidden: Sequence[int], gain: float, own: Build | None) -> nn.Module:
    """A network of its own, for a policy or a critic that share nothing."""
    if own is not None:
        before, inputs = _before(seen)
        return Layers(*before, own(inputs, outputs)) if before else own(inputs, outputs)
    before, size, _ = front(seen, "auto")
    return Layers(*before, *mlp(size, outputs, hidden, gain))


def _before(seen: Seen) -> tuple[list[nn.Module], Any]:
    """(what stands before the user's network, what that is told of its inputs: their number, or a picture's shape)."""
    if seen.plain and seen.of("picture"):
        return [Scaled()] if seen.dtype.kind == "u" else [], seen.shape
    before, size, _ = front(seen, "auto")
    return before, size


def _places(piece: Piece) -> Tensor:
    return torch.arange(piece.begin, piece.end)


def _conv(n_in: int, n_out: int, size: int, stride: int = 1, padding: int = 0) -> nn.Conv2d:
    layer = nn.Conv2d(n_in, n_out, size, stride, padding)
    nn.init.orthogonal_(layer.weight, math.sqrt(2))
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer
