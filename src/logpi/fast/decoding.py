"""One token more of each of many texts, by a decoder of the Llama family: transformers' layers without the Python around them.

Weights that read the same input lie side by side, in the type that computes and as its products want them; they are made
anew for each rollout. Keys and values are those of lm/cache.py, in float32: attention in bfloat16 is no faster, and less
exact. What is not covered is asked of transformers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, linear, rms_norm, silu

from logpi.device import has_bf16
from logpi.fast.attention import products
from logpi.lm.cache import Slots, cache_for

FAMILY = ("LlamaModel", "MistralModel", "Qwen2Model", "Qwen3Model")
# of weights: in float64 the family's own norms are in float32, and a twin could not equal them
TYPES = (torch.float32,)
ROTARY = ("default", "linear", "llama3")  # rotations that depend on the position alone
Product = Callable[[Tensor], Tensor]
ROWS = 16  # that weights are laid out for; for one row oneDNN may leave them as they are, which is slower for more
LITTLE = 2**17  # numbers in float32 whose product takes torch no longer than it takes to ask oneDNN
PROJECTIONS = {"self_attn": ("q_proj", "k_proj", "v_proj", "o_proj"), "mlp": ("gate_proj", "up_proj", "down_proj")}


def decoder_for(policy: Any, cache: Any, most: int) -> "Decoder | None":
    """For texts of so many tokens, of which the cache has the first; None where `plain` says why."""
    policy.plain = plain(policy, cache)
    return None if policy.plain else begin(policy, cache, most)


def plain(policy: Any, cache: Any) -> str:
    """Why transformers' layers say these texts, in the words that follow 'because'; empty: the twin does."""
    dtype = policy.head.project.weight.dtype
    if not policy.fast:
        return "of --fast off"
    if dtype not in TYPES:
        return f"the fast twin is for float32, and this is {str(dtype).removeprefix('torch.')}"
    if not all(type(layer) is Slots for layer in cache.layers):
        return "its layers forget or fold texts of this length"
    if policy.uncovered is None:
        policy.uncovered = missing(policy.body) or disagreement(policy)
    return policy.uncovered


def begin(policy: Any, cache: Any, most: int) -> "Decoder":
    dtype = policy.head.project.weight.dtype
    for layer in cache.layers:
        layer.room = [x.to(dtype) for x in layer.room]
        layer.show()
    return Decoder(policy.body, most, torch.bfloat16 if policy.bf16 else dtype)


@torch.no_grad()
def disagreement(policy: Any) -> str:
    """The same for a twin that says something else than transformers' layers, after a text behind padding and one without."""
    seen = torch.tensor([[0, 1, 1, 1], [1, 1, 1, 1]], device=policy.head.project.weight.device)
    ids, position = seen.cumsum(1) % 2, (seen.cumsum(1) - 1).clamp(min=0)

    def read() -> Any:
        cache = cache_for(policy.model.config, 0)  # room for any text, however short the window
        more = {policy.cache_name: cache, "attention_mask": seen[:, :3], "position_ids": position[:, :3]}
        policy.hidden(ids[:, :3], **more)
        return cache

    with policy.unrounded():
        last = {policy.cache_name: read(), "attention_mask": seen, "position_ids": position[:, 3:]}
        plain, cache = policy.hidden(ids[:, 3:], **last)[:, 0], read()
        twin = begin(policy, cache, 4)(ids[:, 3], position[:, 3], cache, seen.bool())
    loose = torch.finfo(plain.dtype).eps ** 0.5
    return "" if (twin - plain).abs().max() <= loose * plain.abs().max() else "the twin says something else"


def missing(body: Any) -> str:
    """What of a model the twin does not cover; empty: nothing."""
    name = type(body).__name__
    if type(body).__module__.partition(".")[0] != "transformers" or name not in FAMILY:
        return f"{name} is none of {', '.join(FAMILY)}"
    if body.config.hidden_act != "silu" or body.rotary_emb.rope_type not in ROTARY:
        return f"its activation is {body.config.hidden_act}, its rotation {body.rotary_emb.rope_type}"
    parts = [
        getattr(getattr(x, room), name) for x in body.layers for room, names in PROJECTIONS.items() for name in names
    ]
    if not all(type(part) is nn.Linear or has_lora(part) for part in parts):
        return "its projections are no plain ones"
    return "its feed-forward layers have biases" if said_by(body.layers[0].mlp.up_proj)[1] is not None else ""


def has_lora(part: Any) -> bool:
    """Is it one of peft's, as logpi puts them on?"""
    plain = type(getattr(part, "base_layer", None)) is nn.Linear and hasattr(part, "lora_A")
    return plain and len(part.active_adapters) == 1 and not any(part.lora_bias.values()) and not part.lora_variant


def said_by(part: Any) -> tuple[Tensor, Tensor | None]:
    """Weight and bias, an adapter's share among them."""
    if type(part) is nn.Linear:
        return part.weight, part.bias
    base = part.base_layer
    shared = part.disable_adapters or part.merged
    return base.weight if shared else base.weight + part.get_delta_weight(part.active_adapters[0]), base.bias


@dataclass(frozen=True)
class Layer:
    """Norms and products; `turned` scales queries and keys before they are rotated."""

    before: Tensor
    qkv: Product
    turned: Tensor | None
    out: Product
    between: Tensor
    up: Product
    down: Product


def product(weight: Tensor, bias: Tensor | None) -> Product:
    """x [n, in] -> x W' + b, [n, out]; on the CPU with weights that oneDNN has laid out for it.

    Of 4, 16 and 64 rows M's up projection takes 50, 134 and 470 us so in bfloat16, and 100, 186 and 523 by torch's own product;
    without AVX-512, in float32, 358, 629 and 1,842, and 990, 1,033 and 2,334.
    """
    if not lays_out(weight):
        return lambda x: linear(x, weight, bias)
    laid, ask = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS), torch.ops.mkldnn._linear_pointwise
    return lambda x: ask(x, laid, bias, "none", [], "")


def lays_out(weight: Tensor) -> bool:
    """What torch's own compiler uses of it is there, for such weights."""
    ops, here = torch.ops.mkldnn, weight.device.type == "cpu" and torch.backends.mkldnn.is_available()
    if not here or not all(hasattr(ops, x) for x in ("_reorder_linear_weight", "_linear_pointwise")):
        return False
    if weight.dtype is torch.float32:
        return weight.numel() >= LITTLE
    return weight.dtype is torch.bfloat16 and has_bf16()


def kernels_for(decoder: "Decoder") -> Any:
    """Fused kernels for what stands between its products; None: torch's operations."""
    if decoder.embed.device.type != "cpu" or decoder.dtype not in (torch.float32, torch.bfloat16):
        return None
    try:
        from logpi.fast import token
    except ImportError:  # numba is an extra, and may not like the numpy that is there
        return None
    return token


class Decoder:
    """(token [n], its position [n]) -> hidden states [n, H], and the cache has it."""

    def __init__(self, body: Any, most: int, dtype: torch.dtype) -> None:
        here = body.layers[0].self_attn
        self.size, self.dtype = here.head_dim, dtype
        self.queries, self.keys = (x.out_features // self.size for x in (here.q_proj, here.k_proj))
        self.opened = body.layers[0].mlp.down_proj.in_features
        self.embed, self.norm, self.eps = body.embed_tokens.weight, body.norm.weight, body.norm.variance_epsilon
        cos, sin = body.rotary_emb(self.embed, torch.arange(most, device=self.embed.device)[None])
        signs = torch.cat([-torch.ones(self.size // 2), torch.ones(self.size // 2)]).to(sin)
        self.cos, self.sin = cos[0][:, None], (sin[0] * signs)[:, None]  # [most, 1, size]; of each half's other
        self.layers = [self._layer(x) for x in body.layers]
        self.kernels = kernels_for(self)

    def _layer(self, layer: Any) -> Layer:
        here, mlp, turned = layer.self_attn, layer.mlp, None
        if hasattr(here, "q_norm"):
            turned = torch.cat([here.q_norm.weight.expand(self.queries, -1), here.k_norm.weight.expand(self.keys, -1)])
        return Layer(
            layer.input_layernorm.weight,
            self._beside(here.q_proj, here.k_proj, here.v_proj),
            turned,
            self._beside(here.o_proj),
            layer.post_attention_layernorm.weight,
            self._beside(mlp.gate_proj, mlp.up_proj),
            self._beside(mlp.down_proj),
        )

    def _beside(self, *parts: nn.Linear) -> Product:
        weight, bias = (
            [x.to(self.dtype) for x in each if x is not None] for each in zip(*map(said_by, parts), strict=True)
        )
        return product(torch.cat(weight) if len(weight) > 1 else weight[0], torch.cat(bias) if bias else None)

    def __call__(self, token: Tensor, position: Tensor, cache: Any, seen: Tensor | None) -> Tensor:
        """seen [n, tokens]: what is no padding, the new token among it; None: all."""
        if self.kernels is not None:
            return self.kernels.hidden(self, token, position, cache, seen)
        x, turn = embedding(token, self.embed), (self.cos[position], self.sin[position])
        mask = None if seen is None else seen[:, None, None]
        for layer, slots in zip(self.layers, cache.layers, strict=True):
            x = x + self._attend(layer, slots, self._normed(x, layer.before), turn, mask)
            gate, up = layer.up(self._normed(x, layer.between)).chunk(2, -1)
            x = x + layer.down(silu(gate) * up)
        return rms_norm(x, x.shape[-1:], self.norm, self.eps)

    def _attend(self, layer: Layer, slots: Any, x: Tensor, turn: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
        turning, value = layer.qkv(x).unflatten(-1, (-1, self.size)).split((self.queries + self.keys, self.keys), 1)
        if layer.turned is not None:
            turning = rms_norm(turning.to(self.embed.dtype), (self.size,), None, self.eps) * layer.turned
        other = turning.unflatten(-1, (2, -1)).flip(2).flatten(2)  # each half where its other is
        query, key = torch.addcmul(turning * turn[0], other, turn[1]).split((self.queries, self.keys), 1)
        keys, values = slots.update(key[:, :, None], value[:, :, None].to(key.dtype))
        said = products(query.unflatten(1, (self.keys, -1)), keys, values, self.size**-0.5, mask)
        return layer.out(said.flatten(1).to(self.dtype))

    def _normed(self, x: Tensor, weight: Tensor) -> Tensor:
        return rms_norm(x, x.shape[-1:], weight, self.eps).to(self.dtype)
