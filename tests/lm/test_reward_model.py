"""A reward learned from preferences, against transformers' own forward pass and Bradley and Terry's formula."""

import itertools
import math

import pytest
import torch
from lm.little import LETTERS

from logpi import LogpiError
from logpi.lm import pretrained, reward_model, tasks
from logpi.lm.reward_model import RewardModel
from logpi.lm.rewards import Rewards

PAIRS = [
    {"prompt": "abc=", "chosen": "cba", "rejected": "h"},
    {"prompt": "h=", "chosen": "", "rejected": "abcdefgh"},
    {"prompt": "gfed=", "chosen": "defg", "rejected": "defh"},
]


@pytest.fixture
def judge() -> RewardModel:
    made = reward_model.begin("tiny", LETTERS)
    made.model.double()
    return made


def test_it_says_what_transformers_says_with_and_without_padding(judge):
    texts = [judge.ids(x["prompt"], x["rejected"]) for x in PAIRS]
    with torch.no_grad():
        alone = [float(judge.model(input_ids=torch.tensor([x])).logits[0, 0]) for x in texts]
        padded = judge.tokenizer.pad({"input_ids": texts}, padding_side="right", return_tensors="pt")
        together = judge.model(**padded).logits[:, 0].tolist()
        found = judge.scores(texts).tolist()
    assert found == pytest.approx(alone, abs=1e-12) and found == pytest.approx(together, abs=1e-12)
    judge.micro = 1
    said = judge([x["prompt"] for x in PAIRS], [x["rejected"] for x in PAIRS])
    assert said == pytest.approx(alone, abs=1e-12), "in the order that was asked"


@torch.no_grad()
def test_the_loss_is_minus_log_sigma_of_the_difference_for_every_split(judge):
    r = {k: judge([x["prompt"] for x in PAIRS], [x[k] for x in PAIRS]) for k in ("chosen", "rejected")}
    expected = sum(-math.log(1 / (1 + math.exp(b - a))) for a, b in zip(r["chosen"], r["rejected"], strict=True)) / 3
    for micro in (1, 40, 10_000):
        assert -float(sum(reward_model.preference(judge, PAIRS, micro))) == pytest.approx(expected, abs=1e-12)
    assert float(reward_model.log_chance(torch.tensor(800.0), torch.tensor(-800.0))) == 0
    assert float(reward_model.log_chance(torch.tensor(-800.0), torch.tensor(800.0))) == -1600, "no underflow"
    assert reward_model.accuracy(judge, PAIRS) == sum(a > b for a, b in zip(*r.values(), strict=True)) / 3
    assert reward_model.accuracy(judge, [PAIRS[0] | {"rejected": "cba"}]) == 0.5


def test_the_gradient_is_the_same_for_every_split(judge):
    grads = [
        torch.autograd.grad(
            sum(reward_model.preference(judge, PAIRS, m)), [*judge.model.parameters()], allow_unused=True
        )
        for m in (1, 10_000)
    ]
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-13)


class Longer:
    """Of two answers the longer one is preferred."""

    letters, limit = LETTERS, 9

    def preference(self, chance):
        short = chance.randrange(4)
        said = {"rejected": short, "chosen": short + chance.randrange(1, 4)}
        word = "".join(chance.choices("abcdefgh", k=4))
        return {"prompt": f"{word}="} | {k: "".join(chance.choices("abcdefgh", k=n)) for k, n in said.items()}


def test_it_learns_what_is_preferred_and_scores_pairs_it_never_saw():
    judge, again = (reward_model.begin("tiny", LETTERS, 3) for _ in range(2))
    held = [tasks.draw(Longer(), "test", 0, k, "preference") for k in range(64)]
    before = reward_model.accuracy(judge, held)
    losses = [*reward_model.fit(judge, Longer(), 0, 40, 32, 3e-3)]
    assert losses[0] > 0.5 > 0.3 > losses[-1]
    assert reward_model.accuracy(judge, held) > 0.95 > before
    assert [*itertools.islice(reward_model.fit(again, Longer(), 0, 40, 32, 3e-3), 3)] == losses[:3]
    with pytest.raises(LogpiError, match="Addition has no preferences"):
        next(reward_model.drawn(tasks.find("addition"), 0, 1))


def test_what_is_saved_transformers_loads_and_so_does_logpi(judge, tmp_path):
    from transformers import AutoModelForSequenceClassification

    judge.model.float()
    pretrained.save(judge.model, judge.tokenizer, tmp_path / "rm")
    said = judge(["abc=", "h="], ["cba", "a"])
    assert reward_model.load(str(tmp_path / "rm"))(["abc=", "h="], ["cba", "a"]) == said
    alone = AutoModelForSequenceClassification.from_pretrained(tmp_path / "rm")
    ids = torch.tensor([judge.ids("abc=", "cba")])
    assert float(alone(input_ids=ids).logits.detach()[0, 0]) == pytest.approx(said[0], abs=1e-6)
    assert not any(p.requires_grad for p in reward_model.load(str(tmp_path / "rm")).model.parameters())


def test_it_begins_with_the_body_of_a_language_model(tmp_path, capfd):
    model, tokenizer = pretrained.begin("tiny", LETTERS, 5)
    pretrained.save(model, tokenizer, tmp_path / "lm")
    made = reward_model.begin(str(tmp_path / "lm"), "", 7)
    for name, x in made.model.base_model.state_dict().items():
        assert torch.equal(x, model.transformer.state_dict()[name])
    assert torch.equal(made.model.score.weight, reward_model.begin("tiny", LETTERS, 7).model.score.weight)
    assert capfd.readouterr().err == "", "no report"
    with pytest.raises(
        LogpiError, match=r"lm is no reward model, which says one number: make one with logpi reward-model"
    ):
        reward_model.load(str(tmp_path / "lm"))
    with pytest.raises(LogpiError, match="There is no folder ./nowhere"):
        reward_model.load("./nowhere")
    with pytest.raises(LogpiError, match=r"x .Linear. has no score on its last token"):
        reward_model.must_score(torch.nn.Linear(1, 1), "x")


def test_rewards_take_it_alone_or_beside_functions(judge):
    examples = [{"prompt": "ab=", "answer": "ab"}, {"prompt": "c=", "answer": "c"}]
    said = judge(["ab=", "c="], ["h", "gg"])
    assert Rewards(tasks.find("copy"), [judge])(examples, ["h", "gg"]).tolist() == said
    half = RewardModel(judge.model, judge.tokenizer)
    half.name = "other"
    both = Rewards(tasks.find("copy"), [judge, half], [1.0, -0.5])
    assert both(examples, ["h", "gg"]).tolist() == pytest.approx([x / 2 for x in said])
    assert both.told["reward/other"] == pytest.approx(sum(said) / 2) and both.told["reward_failures"] == 0
    both.close()


def test_what_is_not_finite_too_long_or_no_preference_is_refused(judge):
    with pytest.raises(LogpiError, match="reward model's context 512"):
        judge.ids("a" * 500, "b" * 20)
    with pytest.raises(LogpiError, match="has no tokens for 'xyz'"):
        judge(["xyz"], ["a"])
    with pytest.raises(LogpiError, match="The prompt 'p' has no text rejected: preferences have prompt, chosen"):
        reward_model.checked({"prompt": "p", "chosen": "a"})
    with torch.no_grad():
        judge.model.score.weight.fill_(torch.nan)
    with pytest.raises(LogpiError, match="The reward model tiny says nan of 'cba': fit it again"):
        judge(["abc="], ["cba"])
