"""A causal language model as a policy: s_t is the text so far, a_t the next token.

A row of a Batch is a whole sequence: obs[t] is token t, action[t] token t + 1, `mask` where that one was the model's own.
One causal pass gives every answer; padding stands on the right, where nothing of ours can see it.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from logpi import kl
from logpi.batch import Batch
from logpi.device import few_kernels, heed_bf16
from logpi.errors import LogpiError, short
from logpi.fast import line
from logpi.lm.after import After, after
from logpi.lm.at_once import tokens_at_once
from logpi.lm.chat import PROMPT, is_prompt
from logpi.policy import common, movable

CHUNK = (
    2**24
)  # logits held at once where they need not all be: 64 MiB in float32; of less than 32 MiB the C library keeps what is freed
ALIGNED = 64  # bytes of which every new tensor's address is a multiple


Prompt = str | list[dict[str, Any]]  # a text, or a chat


def ids_of(tokenizer: Any, prompts: Sequence[Prompt]) -> list[list[int]]:
    """The tokens of texts, none added; or of chats, as the template has them, up to where the answer begins."""
    texts = [x if isinstance(x, str) else _chat(tokenizer, x) for x in prompts]
    try:
        return [[*x] for x in tokenizer(texts, add_special_tokens=False)["input_ids"]]
    except Exception as wrong:  # tokenizers has no class of its own for it
        if len(texts) > 1:
            return [ids for text in texts for ids in ids_of(tokenizer, [text])]
        raise LogpiError(
            f"The tokenizer has no tokens for {short(repr(texts[0]))} ({wrong}): give a model that was made for such texts."
        ) from wrong


def _chat(tokenizer: Any, prompt: list[dict[str, Any]]) -> str:
    if not is_prompt(prompt):
        raise LogpiError(f"{short(repr(prompt))} is no prompt: give {PROMPT}.")
    if tokenizer.chat_template is None:
        raise LogpiError("The prompt is a chat, and the tokenizer has no chat template: give texts, or another model.")
    return tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)


def computing(bf16: bool, device: torch.device) -> AbstractContextManager[Any]:
    """In bfloat16, or as the weights are."""
    return torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext()


class Vocabulary:
    """The head: a softmax over all tokens, asked of hidden states [N, H]. Logits are float32 at least, a chunk at a time."""

    choices = None
    action_shape: tuple[int, ...] = ()

    def __init__(self, project: nn.Linear, temperature: float, after: After) -> None:
        self.project, self.temperature, self.after = project, temperature, after

    def logits(self, hidden: Tensor, project: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """[N, V] at the sampling temperature; project: another one."""
        said = (project or self.project)(hidden)
        said = self.after(said.float() if said.dtype in (torch.bfloat16, torch.float16) else said)
        return said if self.temperature == 1.0 else said / self.temperature

    def log_prob(self, hidden: Tensor, action: Tensor) -> Tensor:
        return self._each(lambda h, a: self.logits(h).log_softmax(-1).gather(-1, a[:, None])[:, 0], hidden, action)

    def entropy(self, hidden: Tensor, action: Tensor | None = None) -> Tensor:
        def of(h: Tensor) -> Tensor:
            log_p = self.logits(h).log_softmax(-1)
            return -(log_p.exp() * log_p).sum(-1)

        return self._each(of, hidden)

    def kl(self, hidden: Tensor, other: Tensor, logits: Callable[[Tensor], Tensor], turned: bool = False) -> Tensor:
        """KL(p || q), p of `hidden`, q of `other`, whose logits are another's; turned: KL(q || p)."""

        def of(h: Tensor, o: Tensor) -> Tensor:
            p, q = self.logits(h), logits(o)
            return kl.categorical(q, p) if turned else kl.categorical(p, q)

        return self._each(of, hidden, other)

    def fisher(self, logits: Tensor, v: Tensor) -> Tensor:
        """(diag(p) - p p') v."""
        p = logits.softmax(-1)
        return p * (v - (p * v).sum(-1, keepdim=True))

    def _each(self, answer: Callable[..., Tensor], *rows: Tensor) -> Tensor:
        """answer(rows), [N, ...] -> [N], of so many rows at once that their logits fit; those of a chunk are computed again backwards."""
        size = max(1, CHUNK // self.project.weight.shape[0])
        if len(rows[0]) <= size:
            return answer(*rows)
        again = torch.is_grad_enabled() and any(x.requires_grad for x in rows)
        parts = zip(*(x.split(size) for x in rows), strict=True)
        return torch.cat([checkpoint(answer, *part, use_reentrant=False) if again else answer(*part) for part in parts])


class Tokens(nn.Module):
    """pi(token | text) of a Hugging Face causal LM. The distribution's parameters are the hidden states; `forward` gives logits.

    `remember` keeps the weights that draw a batch, for what is asked of pi_old later.
    """

    shared = True  # a critic is a head on the hidden states; False: a model of its own, which reads the rows
    fast = True  # what fast/decoding.py, fast/line.py and fast/attention.py cover goes through them
    uncovered: str | None = None  # why sampling does not; empty: it does; None: nobody has asked
    plain: str | None = None  # why the last texts were sampled without; empty: they were not; None: there were none
    memory = normaliser = return_normaliser = mask = None
    spec: dict[str, Any]
    adapter: Any = None  # of LoRA (lm/lora.py): what it was put on

    def __init__(self, model: nn.Module, tokenizer: Any = None, temperature: float = 1.0, bf16: bool = False) -> None:
        super().__init__()
        self.model, self.tokenizer, self.bf16 = model, tokenizer, bf16
        if bf16:
            few_kernels()
        self.head: Any = Vocabulary(model.get_output_embeddings(), temperature, after(model))  # type: ignore[operator]
        self.width = int(model.config.get_text_config().hidden_size)  # type: ignore[union-attr, operator]
        names = ("max_position_embeddings", "max_seq_len")
        # tokens that a row may have
        self.context = next((n for x in names if (n := getattr(model.config, x, None))), None)
        self.cache_name = "cache" if "cache" in inspect.signature(self.body.forward).parameters else "past_key_values"
        self.spec, self.before = {}, dict[str, Tensor]()
        self.lined = 0.0  # tokens up to which rows may be one line of tokens; none until that is seen to say the same

    @property
    def body(self) -> Any:
        """All of the model but the projection to the vocabulary."""
        return self.model.get_decoder()  # type: ignore[operator]

    def encode(self, prompt: Prompt) -> list[int]:
        """The tokens of a text, none added; or of a chat, as the template has it, up to where the answer begins."""
        return self.encode_all([prompt])[0]

    def encode_all(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """The same of many, faster."""
        return ids_of(self.tokenizer, prompts)

    @property
    def ends(self) -> list[int]:
        """The tokens that end an answer: the tokenizer's, and those that the model is said to generate until."""
        said = getattr(getattr(self.model, "generation_config", None), "eos_token_id", None)
        more = said if isinstance(said, list) else [] if said is None else [said]
        return [*dict.fromkeys([self.tokenizer.eos_token_id, *more])]

    def hidden(self, ids: Tensor, **more: Any) -> Tensor:
        """[B, T] -> [B, T, H]."""
        with computing(self.bf16, ids.device):
            said = self.body(input_ids=ids, use_cache=self.cache_name in more, **more).last_hidden_state
        return said.to(self.head.project.weight.dtype)

    @contextmanager
    def unrounded(self) -> Iterator[None]:
        """It computes as its weights are inside, whatever --bf16 says: what twins are held against."""
        before, self.bf16 = self.bf16, False
        try:
            yield
        finally:
            self.bf16 = before

    def at_once(self) -> int:
        """As many tokens as memory is kept for, between the hidden states and their gradient; logits are never all there."""
        return tokens_at_once(self.hidden, self.model, self.context)

    def features(self, b: Batch) -> Any:
        """What a critic reads, too: [N, H] at our tokens, or the rows as they are."""
        return common.hidden(self, b) if self.shared else b

    def params(self, features: Any, obs: Tensor) -> Tensor:
        """[N, H]."""
        return features if self.shared else common.hidden(self, features)

    def forward(self, b: Batch, logits: bool = True) -> Tensor:
        """Logits [N, V] at our tokens; or what they are made of."""
        hidden = self.params(self.features(b), b.obs)
        return self.head.logits(hidden) if logits else hidden

    def remember(self) -> None:
        """The weights that move are, as they are now, those of pi_old."""
        self.before = {name: p.detach().clone() for name, p in movable(self).items()}

    def kl_old(self, b: Batch, hidden: Tensor, turned: bool = False) -> Tensor:
        """KL(pi_old || pi), exact over the vocabulary, [N]; turned: KL(pi || pi_old)."""
        with torch.no_grad():
            old = functional_call(self, self.before, (b, False), tie_weights=True)
        names = {p: name for name, p in self.named_parameters()}
        own = self.head.project
        kept = {k: self.before.get(names[p], p).detach() for k, p in own.named_parameters()}
        logits = partial(self.head.logits, project=lambda x: functional_call(own, kept, (x,)))
        return self.head.kl(hidden, old, logits, turned=not turned)

    def normalise(self, obs: Tensor) -> Tensor:
        return obs

    def start(self, n: int) -> None:
        return None

    def place(self, device: str | torch.device, dtype: torch.dtype) -> "Tokens":
        self.model.to(device, dtype)
        if self.bf16:
            heed_bf16(device)
        if dtype is torch.float64:
            self.model.set_experts_implementation("eager")  # type: ignore[operator]  # grouped products have no float64
        for x in (*self.model.parameters(), *self.model.buffers()):
            if x.data_ptr() % ALIGNED:  # as in a file; where a matrix begins decides the last bits of its products
                x.data = x.data.clone()
        must_bear_padding(self)
        self.quicken()
        return self

    def quicken(self) -> None:
        """From now on what fast/ covers goes through it."""
        self.lined = line.begin(self) if self.fast else 0.0

    def pack(self, obs: Tensor) -> str:
        return "prompts" if obs.shape[-1] <= self.lined else "rows"


@torch.no_grad()
def must_bear_padding(policy: Tokens) -> None:
    """Refuse a model that says something else behind padding, or after it: NaN, or what a memory made of the padding.

    It is asked as the engine asks: for a text, then for one more token with what it keeps of that.
    """
    from transformers.cache_utils import DynamicCache  # an extra, and a second of every start

    like, name = policy.head.project.weight, type(policy.model).__name__
    config: Any = policy.model.config
    seen = torch.tensor([[0, 0, 0, 1, 1, 1]], device=like.device)
    ids, position, kept = seen.cumsum(1) % 2, (seen.cumsum(1) - 1).clamp(min=0), DynamicCache(config=config)
    said = [
        policy.hidden(
            ids[:, new],
            **{policy.cache_name: kept, "attention_mask": seen[:, : new.stop], "position_ids": position[:, new]},
        )
        for new in (slice(0, 5), slice(5, 6))
    ]
    behind, alone = torch.cat(said, 1), policy.hidden(ids[:, 3:])
    if not behind.isfinite().all():
        dtype = str(like.dtype).removeprefix("torch.")
        raise LogpiError(f"{name} says NaN behind padding in {dtype}: use --dtype float32, or another model.")
    loose = torch.finfo(torch.bfloat16 if policy.bf16 else like.dtype).eps ** 0.5
    if (behind[:, 3:] - alone).abs().max() > loose * alone.abs().max():
        raise LogpiError(
            f"{name} says something else behind padding, which prompts of different lengths need: use another model."
        )
