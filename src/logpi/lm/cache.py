"""Keys and values of a growing text, in room kept ahead: transformers' own cache copies all of it at every token."""

from collections.abc import Sequence
from math import inf
from typing import Any

from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

AHEAD = 64  # tokens for which there is room at first; it doubles


class Slots(DynamicLayer):
    """One layer: [n, heads, room, size], of which the first `filled` tokens count."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.filled, self.most = 0, most  # tokens that there are; that there will ever be
        self.room: list[Tensor] = []

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        self.room = [x.new_empty(0) for x in (key_states, value_states)]
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        begin = self.begin(key_states.shape[-2], (key_states, value_states))
        for room, new in zip(self.room, (key_states, value_states), strict=True):
            room[:, :, begin : self.filled] = new
        return self.show()

    def begin(self, tokens: int, like: Sequence[Tensor]) -> int:
        """Room for so many more keys and values like these; where they begin."""
        begin, self.filled = self.filled, self.filled + tokens
        if not begin or self.room[0].shape[-2] < self.filled:
            self.room = [self._more(old, new, begin) for old, new in zip(self.room, like, strict=True)]
            self.show()
        return begin

    def show(self) -> tuple[Tensor, Tensor]:
        """`keys` and `values`, from now on what counts of this room: they keep no other alive."""
        keys, values = (x[:, :, : self.filled] for x in self.room)
        self.keys, self.values = keys, values
        return keys, values

    def _more(self, old: Tensor, new: Tensor, filled: int) -> Tensor:
        """Room for twice as much, where so much is still to come."""
        n, heads, _, size = new.shape
        room = new.new_empty(n, heads, max(self.filled, min(self.most, max(self.filled + AHEAD, 2 * filled))), size)
        if filled:
            room[:, :, :filled] = old[:, :, :filled]
        return room

    def get_seq_length(self) -> int:
        return self.filled

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.filled + query_length, 0

    def batch_select_indices(self, indices: Tensor) -> None:
        for k, old in enumerate(self.room):
            self.room[k] = old.new_empty(len(indices), *old.shape[1:])
            self.room[k][:, :, : self.filled] = old[indices, :, : self.filled]
        self.show()


def cache_for(config: Any, most: int) -> Cache:
    """What a model keeps of a text of so many tokens at most; layers that forget or fold the text as transformers has them."""
    cache = DynamicCache(config=config)
    cache.layers = [Slots(most) if most <= kept_by(layer) else layer for layer in cache.layers]
    return cache


def kept_whole(config: Any) -> float:
    """Tokens up to which every layer of such a model keeps a text as it is."""
    return min(map(kept_by, DynamicCache(config=config).layers), default=0)


def kept_by(layer: Any) -> float:
    """The same of a layer: as many as its window has; none where it folds them."""
    if type(layer) is DynamicSlidingWindowLayer:
        return layer.sliding_window
    return inf if type(layer) is DynamicLayer else 0


def rows_may_change(cache: Cache) -> bool:
    """Can rows be repeated and dropped in every layer?"""
    return all(hasattr(layer, "batch_select_indices") for layer in cache.layers)


def select(cache: Cache, rows: Tensor) -> None:
    """These rows, in this order, may be several times."""
    for layer in cache.layers:
        layer.batch_select_indices(rows)  # type: ignore[union-attr]
