"""`logpi sft` and `logpi reward-model` with an adapter, in bfloat16, in a memory that is short: a plain folder comes out."""

import re
from functools import partial
from pathlib import Path

import pytest
import torch
from lm.little import little
from lm.test_reward_model import LETTERS, PAIRS
from lm.test_sft import ANSWERS, PROMPTS
from lm.test_short_of_memory import Short
from run.test_language_runs import SMALL
from safetensors.torch import load_file
from test_memory import WRONGS

from logpi import LogpiError
from logpi.lm import lora, pretrained, reward_model, sft
from logpi.lm.fitting import ascend
from logpi.lm.tasks import find

SHORT = ("--steps", "20", "--rows", "16", "--lr", "1e-2")
KINDS = {"sft": ("--task", "copy", "--level", "2"), "reward-model": ("--task", "sentiment-toy")}


def tensors(call, kind: str, out: str, *more: str) -> dict[str, torch.Tensor]:
    code, said, err = call(kind, *KINDS[kind], "--out", out, *SHORT, *more)
    assert code == 0, err
    first, last = map(float, re.search(r"loss \D*(\S+) -> ([\d.]+)", said.splitlines()[-2]).groups())
    assert last < first
    return load_file(f"{out}/model.safetensors")


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_becomes_part_of_a_plain_folder(call, kind, tmp_path):
    fitted = tensors(call, kind, "fitted", "--lora", "2")
    letters = find(KINDS[kind][1]).letters
    new = pretrained.begin("tiny", letters)[0] if kind == "sft" else reward_model.begin("tiny", letters).model
    first = new.state_dict()
    assert {*fitted} == {*first}, "no tensor of peft's"
    moved = {name for name in first if not torch.equal(first[name], fitted[name])}
    assert moved - {"score.weight"} == {
        name for name in first if re.search(r"h\.\d.*(c_attn|c_proj|c_fc)\.weight", name)
    }
    assert ("score.weight" in moved) is (kind == "reward-model"), "the line at the last token is new, and fitted whole"
    for name in moved - {"score.weight"}:
        assert int(torch.linalg.matrix_rank(fitted[name] - first[name], rtol=1e-3)) == 2
    assert not (tmp_path / "fitted" / "adapter_config.json").exists()
    more = ("--model", "fitted") if kind == "sft" else ("--task", "sentiment-toy", "--reward-model", "fitted")
    assert call("train", "grpo", *SMALL, *more, "--steps", "20", "--starts", "2", "--group", "2")[0] == 0


@pytest.mark.parametrize("kind", KINDS)
def test_in_bfloat16_it_fits_nearly_the_same(call, kind):
    wide, narrow = tensors(call, kind, "wide"), tensors(call, kind, "narrow", "--bf16")
    apart = torch.cat([(narrow[k] - x).flatten() for k, x in wide.items()]).abs()
    assert 0 < float(apart.mean()) < 5e-3 and all(x.dtype == torch.float32 for x in narrow.values())
    one, other = (Path(out, "config.json").read_text() for out in ("wide", "narrow"))
    assert one == other, "nothing tells of the attention that it was fitted with"


def test_a_weight_without_an_adapter_is_refused(call):
    for kind in KINDS:
        code, _, err = call(kind, "--out", "new", "--lora-alpha", "2")
        assert code == 2 and err == (
            "logpi: --lora-alpha is the weight of an adapter, and there is none: give --lora, its rank.\n"
        )


def test_what_is_folded_says_what_it_said():
    policy, ids = little(), torch.tensor([[1, 2, 3, 9]])
    lora.put_in(policy.model, 3, 6.0, 0)
    with torch.no_grad():
        for name, p in policy.model.named_parameters():
            p.add_(0.3 * torch.randn(p.shape, dtype=p.dtype)) if lora.of_adapter(name) else None
    before = policy.model(input_ids=ids).logits
    lora.fold(policy.model)
    torch.testing.assert_close(policy.model(input_ids=ids).logits, before, rtol=0, atol=1e-12)
    assert not any(map(lora.of_adapter, policy.model.state_dict()))
    assert all(p.requires_grad for p in policy.model.parameters())


@pytest.mark.parametrize("wrong", WRONGS, ids=lambda x: type(x).__name__)
def test_a_fit_in_little_memory_is_the_same_fit(wrong):
    plenty, small = little(), little()
    Short(small, 20, wrong=wrong)
    rows = sft.rows_from(plenty, PROMPTS, ANSWERS)
    first, second = ([*ascend(p, partial(sft.loss, p), iter([rows] * 3), 1e-3, 3)] for p in (plenty, small))
    assert first == pytest.approx(second, abs=1e-12)
    for p, q in zip(plenty.parameters(), small.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=1e-10)
    small.hidden.room = 0
    with pytest.raises(
        LogpiError, match="The memory does not hold 1 token at once: use a smaller model, or shorter texts"
    ):
        next(ascend(small, partial(sft.loss, small), iter([rows]), 1e-3, 1))


def test_a_reward_model_in_little_memory_says_the_same():
    asked = reward_model.begin("tiny", LETTERS)
    asked.model.double()
    prompts, said = [x["prompt"] for x in PAIRS], [x["chosen"] for x in PAIRS]
    whole, real, sizes = asked(prompts, said), asked.scores, []

    def scores(texts):
        sizes.append(len(texts))
        if len(texts) > 1:
            raise WRONGS[0]
        return real(texts)

    asked.scores = scores
    assert asked(prompts, said) == pytest.approx(whole, abs=1e-12) and sizes[0] == len(PAIRS) and sizes[-1] == 1
    asked.scores = lambda texts: (_ for _ in ()).throw(WRONGS[0])
    with pytest.raises(LogpiError, match="The memory does not hold 1 text at once: use a smaller reward model"):
        asked(prompts, said)
