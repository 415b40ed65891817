"""The token view: exact expectations, credit by hand, and each step the one that the next picture begins from."""

import json
import math

import pytest
import torch

from logpi.errors import LogpiError
from logpi.lab import little
from logpi.lab.demos.tokens import Params, demo
from logpi.methods import GRPO
from logpi.now import Now

METHOD = GRPO(group=16, lr=0.3, starts=1, epochs=1, minibatches=1)


@pytest.mark.parametrize("step", [0, 6])
def test_all_answers_are_there_and_the_group_is_drawn_from_them(step: int) -> None:
    chance, reward, texts = little.every(little.model(METHOD, 0, step))
    assert len(texts) == 1 + 4 + 16 + 64 + 256 and float(chance.sum()) == pytest.approx(1, abs=1e-12)
    assert float(reward.max()) == 1 and texts[int(reward.argmax())] == "cba"
    found = demo(Params(step=step, group=32), 0)
    for answer in found["answers"]:
        text = "".join(x for x in answer["tokens"] if x != "<end>")
        cut = answer["tokens"][-1] != "<end>"
        place = next(i for i, x in enumerate(texts) if x == text and (len(text) == 4) == cut)
        same = little.every(little.model(GRPO(group=32, lr=0.3, starts=1, epochs=1, minibatches=1), 0, step))[0][place]
        assert math.exp(sum(answer["log_pi"])) == pytest.approx(float(same), rel=1e-10)
        assert answer["reward"] == pytest.approx(float(reward[place]))


@pytest.mark.parametrize("scale", [True, False])
def test_every_token_has_its_answers_advantage_and_an_answer_counts_once(scale: bool) -> None:
    found = demo(Params(scale=scale), 1)
    R = torch.tensor([x["reward"] for x in found["answers"]], dtype=torch.float64)
    psi = (R - R.mean()) / (R.std(correction=0) + 1e-6 if scale else 1.0)
    assert found["mean"] == pytest.approx(float(R.mean())) and float(R.std()) > 0
    for answer, credit in zip(found["answers"], psi.tolist(), strict=True):
        n = len(answer["tokens"])
        assert answer["psi"] == pytest.approx([credit] * n, abs=1e-12)
        assert answer["weight"] == pytest.approx([1 / 16 / n] * n)


def test_a_step_makes_what_was_better_than_its_group_likelier() -> None:
    for seed in range(3):
        moved = [
            w * p * (new - old)
            for x in demo(Params(lr=0.02), seed)["answers"]
            for w, p, new, old in zip(x["weight"], x["psi"], x["after"], x["log_pi"], strict=True)
        ]
        assert sum(moved) > 0


def test_the_next_picture_begins_where_this_step_ends() -> None:
    here, later = demo(Params(step=2), 3), demo(Params(step=3), 3)
    assert later["expected"][:3] == here["expected"] and len(later["expected"]) == 4
    assert here["next"] == {"reward": later["expected"][3], "right": later["right_probability"][3]}


def test_the_kl_of_a_step_is_the_exact_one() -> None:
    old, new = (little.model(METHOD, 2, k) for k in (0, 1))
    rows = little.group(old, METHOD, 2, 0).map(lambda x: x[0])
    with torch.no_grad():
        p, q = (x(rows).log_softmax(-1) for x in (old, new))
        after = Now(new, None, rows).log_pi[0, rows.mask[0]]
    found = demo(Params(), 2)
    assert found["kl"] == pytest.approx(float((p.exp() * (p - q)).sum(-1).mean()), rel=1e-9) and found["kl"] > 0
    assert found["answers"][0]["after"] == pytest.approx(after.tolist(), abs=1e-12)


@pytest.mark.parametrize("seed", [0, 1])
def test_it_learns_to_say_the_word_backwards(seed: int) -> None:
    found = demo(Params(step=20), seed)
    assert found["expected"][-1] > found["expected"][0] + 0.5 and found["right_probability"][-1] > 0.5


def test_what_is_kept_between_pictures_changes_none() -> None:
    kept = json.dumps(demo(Params(step=2), 5), allow_nan=False)
    little.model.cache_clear()
    little.history.cache_clear()
    assert json.dumps(demo(Params(step=2), 5)) == kept


def test_without_transformers_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("logpi.run.language.find_spec", lambda _: None)
    with pytest.raises(LogpiError, match=r'need transformers: pip install "logpi\[lm\]"'):
        demo(Params(), 0)
