"""How an element of a space lies in one array: what an environment shows (`Seen`), and what it is given (`Taken`).

A vector and a picture stay what they are. Everything else becomes one vector: numbers as they are, a choice one-hot, the
parts of a Dict or a Tuple one after the other, text left out. numpy only: processes that step environments import this.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from gymnasium import spaces

from logpi.errors import LogpiError, short

Kind = Literal["numbers", "choice", "picture", "mask"]
MASK = "action_mask"  # the key of an observation that says which actions are allowed
PIXELS = 4  # a side, from which on an array is a picture
Path = tuple[Any, ...]  # keys and numbers, from the whole space to a part


@dataclass(frozen=True)
class Piece:
    """A part of a space that is no Dict or Tuple, and where it lies: array[begin:end]."""

    path: Path
    kind: Kind
    space: Any
    begin: int
    end: int


class Seen:
    """What an observation space looks like in an array of this `shape` and `dtype`.

    `pieces` say what lies where; a `plain` space has one, which is the array itself.
    """

    def __init__(self, space: spaces.Space) -> None:
        found = [(path, kind_of(path, leaf), leaf) for path, leaf in arrays(space)]
        sizes = [size_of(kind, leaf) for _, kind, leaf in found]
        ends = np.cumsum([0, *sizes]).tolist()
        if not ends[-1]:
            raise LogpiError(
                f"The observation space {short(str(space))} shows nothing: wrap it so that it has a number."
            )
        self.space = space
        self.pieces = [Piece(*x, begin, end) for x, begin, end in zip(found, ends, ends[1:], strict=False)]
        self.plain = isinstance(space, spaces.Box) and (is_picture(space) or len(space.shape) == 1)
        self.shape: tuple[int, ...] = tuple(space.shape or ()) if self.plain else (ends[-1],)
        wide = any(getattr(leaf, "dtype", None) == np.float64 for _, _, leaf in found)
        self.dtype = np.dtype(space.dtype if self.plain else np.float64 if wide else np.float32)

    def of(self, kind: Kind) -> list[Piece]:
        return [piece for piece in self.pieces if piece.kind == kind]

    def array(self, x: Any) -> np.ndarray:
        """An observation, or a stack of them, as an array [..., *shape]; errors as those of `pack`."""
        if self.plain:
            found = np.asarray(x)
            if found.shape[-len(self.shape) :] != self.shape or found.dtype.kind not in "biuf":
                raise ValueError(f"it is {found.dtype} of shape {found.shape}")
            return found
        piece = self.pieces[0]
        part = np.asarray(_at(x, piece.path))
        out = np.zeros((*part.shape[: part.ndim - len(piece.space.shape)], *self.shape), self.dtype)
        self.pack(x, out)
        return out

    def pack(self, x: Any, out: np.ndarray) -> None:
        """An observation, or a batch of them in arrays [..., *part], into out [..., *shape].

        ValueError, KeyError, TypeError or IndexError where it does not fit.
        """
        if self.plain:
            out[...] = x
            return
        for piece in self.pieces:
            part, place = np.asarray(_at(x, piece.path)), out[..., piece.begin : piece.end]
            must_be_like(piece, part, out.shape[:-1])
            if piece.kind == "choice":
                choose(piece.space, part, place)
            else:
                place[...] = part.reshape(place.shape)


class Taken:
    """What an action space looks like in an array of this `shape` and `dtype`; `plain` where that is its own."""

    def __init__(self, space: spaces.Space) -> None:
        self.space, self.plain = space, not isinstance(space, spaces.Dict | spaces.Tuple)
        self.parts = [(path, leaf, int(np.prod(leaf.shape or ()))) for path, leaf in leaves(space)]
        self.shape = tuple(space.shape or ()) if self.plain else (sum(size for *_, size in self.parts),)
        self.dtype = np.dtype(space.dtype if self.plain else np.float64)  # which holds whole numbers, too

    def unpack(self, x: np.ndarray) -> Any:
        """The element of the space that lies in an array, or a stack of them in [..., *shape]."""
        if self.plain:
            return x.astype(self.dtype, copy=False)
        pieces, at = dict[Path, Any](), 0
        for path, leaf, size in self.parts:
            piece = x[..., at : at + size].astype(leaf.dtype).reshape(x.shape[:-1] + tuple(leaf.shape or ()))
            pieces[path] = piece[()] if isinstance(leaf, spaces.Discrete) else piece
            at += size
        return assembled(self.space, pieces, ())


def _at(x: Any, path: Path) -> Any:
    for key in path:
        x = x[key]
    return x


def assembled(space: spaces.Space, pieces: dict[Path, Any], path: Path) -> Any:
    """A nested element from its leaves."""
    if isinstance(space, spaces.Dict):
        return {key: assembled(part, pieces, (*path, key)) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(assembled(part, pieces, (*path, i)) for i, part in enumerate(space.spaces))
    return pieces[path]


def leaves(space: spaces.Space, path: Path = ()) -> Iterator[tuple[Path, spaces.Space]]:
    """Every part that is no Dict or Tuple, in their order."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces)
        for key, part in parts:
            yield from leaves(part, (*path, key))
    else:
        yield path, space


def arrays(space: spaces.Space) -> list[tuple[Path, spaces.Space]]:
    """The leaves that are no text, if there are such."""
    found = list(leaves(space))
    return [(path, leaf) for path, leaf in found if not is_text(leaf)] or found


def is_text(leaf: spaces.Space) -> bool:
    """Text, or a space of strings of its own kind."""
    return leaf.dtype is not None and leaf.dtype.kind == "U"


def choices(space: spaces.Space) -> list[tuple[int, bool]]:
    """For each part of an action that can be ruled out: its entries in a mask, and whether one of them has to be allowed."""
    if isinstance(space, spaces.Discrete):
        return [(int(space.n), True)]
    if isinstance(space, spaces.MultiDiscrete):
        return [(int(n), True) for n in space.nvec.flat]
    if isinstance(space, spaces.MultiBinary):
        return [(int(np.prod(space.shape)), False)]  # all may have to stay no
    if isinstance(space, spaces.Dict | spaces.Tuple):
        return [part for _, leaf in leaves(space) for part in choices(leaf)]
    return []


def kind_of(path: Path, leaf: spaces.Space) -> Kind:
    if path[:1] == (MASK,):
        return "mask"
    if isinstance(leaf, spaces.Discrete | spaces.MultiDiscrete):
        return "choice"
    if isinstance(leaf, spaces.Box):
        return "picture" if is_picture(leaf) else "numbers"
    if isinstance(leaf, spaces.MultiBinary):
        return "numbers"
    part = f" (the part {'.'.join(map(str, path))})" if path else ""
    raise LogpiError(
        f"The observation space {short(str(leaf))}{part} is no array: wrap the environment so that it shows Box, Discrete,"
        " MultiDiscrete or MultiBinary, or Dict and Tuple of these."
    )


def is_picture(space: spaces.Box) -> bool:
    """uint8 [H, W], [H, W, C] or [C, H, W], floats of three axes, or a stack of what has three; of 4 x 4 pixels at least."""
    axes = len(space.shape)
    fits = (space.dtype == np.uint8 and axes in (2, 3, 4)) or (space.dtype.kind == "f" and axes in (3, 4))
    return fits and min(sides(space.shape)) >= PIXELS


def channels_last(shape: tuple[int, ...]) -> bool:
    """Of [..., H, W, C] and [..., C, H, W]: channels are the odd axis of a square picture, else the shorter of first and last."""
    first, middle, last = shape[-3:]
    return last < first if middle not in (first, last) else first == middle


def sides(shape: tuple[int, ...]) -> tuple[int, int]:
    """Height and width of a picture."""
    return shape[-3:-1] if len(shape) > 2 and channels_last(shape) else shape[-2:]  # type: ignore[return-value]


def size_of(kind: Kind, leaf: Any) -> int:
    """Numbers of the array that a part takes."""
    if kind != "choice":
        return int(np.prod(leaf.shape))
    return int(leaf.n) if isinstance(leaf, spaces.Discrete) else int(leaf.nvec.sum())


def must_be_like(piece: Piece, x: np.ndarray, lead: tuple[int, ...]) -> None:
    """Refuse what has not the shape and the kind of numbers of a part; a mask's numbers may be of any."""
    name, space = ".".join(map(str, piece.path)) or "it", piece.space
    if x.shape != (*lead, *space.shape):
        raise ValueError(f"{name} has shape {x.shape}")
    if x.dtype != space.dtype and piece.kind != "mask" and not np.can_cast(x.dtype, space.dtype, "same_kind"):
        raise ValueError(f"{name} is of {x.dtype}")


def choose(space: Any, x: np.ndarray, out: np.ndarray) -> None:
    """x of a Discrete or MultiDiscrete, one-hot into out [..., size]."""
    counts = np.array([space.n]) if isinstance(space, spaces.Discrete) else space.nvec.ravel()
    lead = out.shape[:-1]
    index = x.reshape(*lead, len(counts)).astype(np.int64) - np.ravel(space.start)
    if not ((index >= 0) & (index < counts)).all():
        raise ValueError(f"{x} is not in {space}")
    out[...] = 0
    np.put_along_axis(out, index + np.cumsum([0, *counts[:-1]]), 1, -1)
