"""Episodes of several turns: token in, token out, and what is not the model's own is masked."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lm.little import LETTERS, little
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from logpi import LogpiError
from logpi.lm import pretrained, sft
from logpi.lm.draws import later, uniform
from logpi.lm.engine import Own
from logpi.lm.episodes import TURNS, play
from logpi.now import Now
from logpi.policy.tokens import Tokens
from logpi.rollout.language import rows_of

BPE = {"<end>": 0, "a": 1, "b": 2, "ab": 3, "=": 4}


class Echo:
    """It says `words` to what it hears, `times` times."""

    letters, limit = LETTERS, 3

    def __init__(self, words="gh", times=2):
        self.words, self.times = words, times

    def reply(self, said, **columns):
        return self.words if len(said) <= self.times else None


class Noting(Own):
    """Our own engine, and all that it was given and said."""

    def generate(self, prompts, *rest):
        said = super().generate(prompts, *rest)
        drawn = [x[:n] for x, n in zip(said.tokens.tolist(), said.length.tolist(), strict=True)]
        copies = len(drawn) // len(prompts)
        self.heard = [*getattr(self, "heard", []), ([[*x] for x in prompts for _ in range(copies)], drawn)]
        return said


def merging() -> Tokens:
    """A little model whose tokenizer has a token for 'ab', beside those for 'a' and 'b': what is decoded encodes to others."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model, _ = pretrained.new("tiny", "abc=")
    core = Tokenizer(models.BPE(BPE, [("a", "b")]))
    core.pre_tokenizer = pre_tokenizers.Split("=", "isolated")
    core.decoder = decoders.Fuse()
    return Tokens(model.eval().double(), PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<end>"))


def played(policy, task, seed=0, copies=6, limit=3, prompts=("ab=", "b="), engine=None):
    engine = engine or Own()
    engine.sync(policy, 7)
    seeds = torch.arange(seed, seed + copies * len(prompts)) * 7919
    return play(engine, policy, task, [{"prompt": x} for x in prompts], seeds, limit, copies)


@given(seed=st.integers(0, 2**40))
@settings(max_examples=15, deadline=None)
def test_each_turn_is_an_exact_prefix_of_the_next_and_nothing_is_encoded_again(seed):
    """Checklist 1."""
    policy, engine = merging(), Noting()
    found = played(policy, Echo("ab", 3), seed, engine=engine)
    (before, drawn), *later_turns = engine.heard
    reply = policy.encode("ab")
    assert reply == [BPE["ab"]]
    for asked, said in later_turns:
        known = [[*x, *y, *reply] for x, y in zip(before, drawn, strict=True)]
        assert all(x in known for x in asked)
        before, drawn = asked, said
    rows = [
        p + x[:n] for p, x, n in zip(found.prompts, found.said.tokens.tolist(), found.said.length.tolist(), strict=True)
    ]
    for asked, said in engine.heard:
        for x, y in zip(asked, said, strict=True):
            assert any(row[: len(x) + len(y)] == x + y for row in rows), "what is trained is what was drawn"


def test_that_tokenizer_would_have_made_other_tokens_of_what_was_said():
    policy = merging()
    found = played(policy, Echo("ab", 3), copies=150)
    again = [
        policy.encode("".join(policy.tokenizer.convert_ids_to_tokens(x[:n])))
        for x, n in zip(found.said.tokens.tolist(), found.said.length.tolist(), strict=True)
    ]
    assert sum(x != y[: len(x)] for x, y in zip(again, found.said.tokens.tolist(), strict=True)) > 5


def test_log_pi_is_that_of_one_pass_over_the_row_and_the_tasks_text_is_masked():
    policy = little()
    found = played(policy, Echo(), prompts=("ab=", "hhh="), copies=20)
    b = rows_of(found.prompts, found.said, torch.ones(40, dtype=torch.float64), found.version, found.ours)
    torch.testing.assert_close(Now(policy, None, b).log_pi, b.log_pi, rtol=0, atol=1e-12)
    several = 0
    for k in range(40):
        text = [int(b.obs[k, 0]), *b.action[k].tolist()]
        ids, turns, replies = found.prompts[k], found.examples[k]["turns"], 0
        assert text[: len(ids)] == ids and int(b.mask[k].sum()) == int(found.length[k])
        said, at = policy.encode("gh"), len(ids)
        for n, words in enumerate(turns):
            mine = policy.encode(words)
            assert text[at : at + len(mine)] == mine and bool(b.mask[k, at - 1 : at - 1 + len(mine)].all())
            at += len(mine)
            if n + 1 < len(turns):
                assert text[at] == policy.ends[0] and bool(b.mask[k, at - 1]), "the end token of a turn is an action"
                assert text[at + 1 : at + 3] == said and not b.mask[k, at : at + 2].any()
                at, replies = at + 3, replies + 1
        several += replies
        last = int(b.mask[k].nonzero().max())
        assert float(b.reward[k].sum()) == float(b.reward[k, last]) == 1 and bool(b.ended[k, last])
        assert bool(b.terminated[k, last]) == (b.action[k, last] == policy.ends[0]).item() == bool(found.said.ended[k])
    assert several > 5 and b.version[b.mask].unique().tolist() == [7]
    assert found.texts[0] == "gh".join(found.examples[0]["turns"])


def test_chance_goes_on_from_turn_to_turn():
    seeds = torch.tensor([3, 2**61, -5])
    for k in (1, 7, 3000):
        assert torch.equal(uniform(later(seeds, k), 4), uniform(seeds, 4 + k))
    policy = little()
    rows = [played(policy, Echo(), seed=s, copies=1, prompts=("ab=",)) for s in range(40)]
    together = played(policy, Echo(), copies=40, prompts=("ab=",))
    for k, row in enumerate(rows):
        n = int(row.said.length[0])
        assert row.said.tokens[0, :n].tolist() == together.said.tokens[k, :n].tolist(), "in any company"


def test_an_episode_that_outgrows_the_context_is_cut_off_not_ended():
    policy = little()
    policy.context = 14
    found = played(policy, Echo("gh", 99), copies=60, prompts=("ab=",))
    assert int(found.said.length.max()) + 3 <= 14
    several = [len(x["turns"]) > 1 for x in found.examples]
    assert any(several) and not found.said.ended.any(), "the task had more to say to every one that ended its turn"
    policy.context = None
    policy.model.get_output_embeddings().weight.data[0] += (
        1e3 * torch.sign(policy.hidden(torch.tensor([[1]]))[0, 0]).detach()
    )
    found = played(policy, Echo("", 10_000), copies=1, prompts=("ab=",), limit=1)
    assert len(found.examples[0]["turns"]) <= TURNS


def test_replies_that_raise_or_are_no_text_are_told_in_a_sentence():
    class Raises(Echo):
        def reply(self, said, **columns):
            return {}["a"]

    class Number(Echo):
        def reply(self, said, **columns):
            return 3

    class Refuses(Echo):
        def reply(self, said, **columns):
            raise LogpiError("a sentence of its own")

    for task, told in (
        (Raises(), "The reply of Raises raised KeyError .'a'. for the turns .*: it must have a reply, or None"),
        (Number(), "The reply of Number is a int: return a text, or None where it is over"),
        (Refuses(), "a sentence of its own"),
        (Echo("xyz"), "The tokenizer has no tokens for 'xyz'"),
    ):
        with pytest.raises(LogpiError, match=told):
            played(little(), task, copies=20)


def test_demonstrations_are_the_turns_with_the_replies_between_them():
    policy = little()
    b = sft.shown(policy, Echo(), [{"prompt": "ab=", "answer": ["c", "dd", "e"]}, {"prompt": "b=", "answer": ["h"]}])
    end, text = policy.ends[0], policy.encode
    assert b.action[b.mask].tolist() == [*text("c"), end, *text("dd"), end, *text("e"), end, *text("h"), end]
    first = [int(b.obs[0, 0]), *b.action[0, :-1].tolist()]  # the last slot is nobody's
    assert first == [*text("ab=c"), end, *text("ghdd"), end, *text("ghe"), end]
    for answer, told in (
        (["c"] * 4, "The answer to 'ab=' has 4 turns, and after 3 the episode is over"),
        ("c", "has no answer that is a list of turns"),
        ([], "has no answer that is a list of turns"),
    ):
        with pytest.raises(LogpiError, match=told):
            sft.shown(policy, Echo(), [{"prompt": "ab=", "answer": answer}])
