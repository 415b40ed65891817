"""The shipped tasks of several turns, tools, and chat templates that must keep what was said."""

import pytest
import torch
from lm.little import little

from logpi import LogpiError
from logpi.lm import sft, tasks
from logpi.lm.chat import between, between_turns
from logpi.lm.data import Table
from logpi.lm.rewards import score
from logpi.lm.tasks import draw
from logpi.lm.tasks.turns import Calculator, GuessNumber, calculated
from logpi.lm.tools import call

CHATML = "{% for m in messages %}<{{ m.role }}>{{ m.content }}[end]\n{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
FORGETS = CHATML.replace(
    "{{ m.content }}", "{{ m.content.split('</think>')[-1] if m.role == 'assistant' and not loop.last else m.content }}"
)
NUMBERS = CHATML.replace("<{{ m.role }}>", "<{{ m.role }} {{ messages | length }}>")
CHAT = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "which?"}]


def replies(task, example):
    """What the task says to each turn of its own answer."""
    columns, said = {k: v for k, v in example.items() if k != "prompt"}, example["answer"]
    return [task.reply(said[: k + 1], **columns) for k in range(len(said))]


@pytest.mark.parametrize("name", ["guess-number", "calculator"])
@pytest.mark.parametrize("level", [None, 3])
def test_turns_of_the_answer_are_worth_one_and_others_less(name, level):
    task = tasks.find(name, level)
    drawn = [draw(task, "train", 0, k) for k in range(200)]
    for example in drawn:
        *between_turns, last = replies(task, example)
        assert last is None and all(between_turns), "the episode is over with the last turn, and not before"
    columns = {k: [x[k] for x in drawn] for k in drawn[0] if k != "prompt"}
    prompts, texts, turns = [x["prompt"] for x in drawn], [""] * 200, columns["answer"]
    assert score(task.reward, prompts, texts, columns | {"turns": turns}) == [1.0] * 200
    assert max(score(task.reward, prompts, texts, columns | {"turns": [["=", *x[1:-1], "?"] for x in turns]})) == 0
    assert max(score(task.reward, prompts, texts, columns | {"turns": [[""]] * 200})) == 0


@pytest.mark.parametrize("numbers", [1, 2, 3, 7, 8, 15, 1000])
def test_halving_always_finds_the_number_in_the_guesses_that_there_are(numbers):
    task = GuessNumber(numbers)
    low, high = 5, 4 + numbers
    most = max(len(task.halving(low, high, n)) for n in range(low, high + 1))
    assert most == task.guesses


def test_a_guess_is_told_whether_the_number_is_less_or_more_and_is_worth_its_nearness():
    task = GuessNumber(15)
    at = {"low": 412, "number": 417}
    assert [task.reply(x, **at) for x in (["419"], ["419", "415"], ["417"], ["411"], ["42"], [""])] == [
        "<",
        ">",
        *[None] * 4,
    ]
    assert task.reply(["419"] * 4, **at) is None, "four guesses, and no more"
    worth = [task.worth(task.read(x, 412), 417) for x in ("417", "418", "412", "426", "427", "x")]
    assert worth == pytest.approx([1, 0.5 * 14 / 15, 0.5 * 10 / 15, 0.5 * 6 / 15, 0, 0])


def test_a_tool_is_called_by_the_end_of_a_turn_and_gets_a_text():
    seen = []
    tools = {"calc": lambda x: seen.append(x) or "42", "loud": str.upper}
    assert call("so calc(6*(3+4)) ", tools) == "42" and seen == ["6*(3+4)"]
    assert call("loud(a\nb)", tools) == "A\nB"
    assert (
        call("loud(a) calc(b)", tools) == "42"
        and call("calc(1)*calc(37*48)", tools) == "42"
        and seen[1:] == ["b", "37*48"]
    )
    assert call("loud(calc(a) b)", tools) == "CALC(A) B" and call("calc(1) loud(:))", tools) == ":)"
    for none in ("calc(1) is it", "other(1)", "recalc(1)", "", "calc"):
        assert call(none, tools) is None
    with pytest.raises(LogpiError, match="The tool calc raised ZeroDivisionError .* for '3': it must return a text"):
        call("calc(3)", {"calc": lambda x: 1 / 0})


def test_the_calculator_computes_and_runs_nothing():
    assert [calculated(x) for x in ("37*48", "2+3*4", "(2-5)", "8/2")] == ["1776=", "14=", "-3=", "4="]
    assert {calculated(x) for x in ("", "3*", "2**9", "__import__('os')", "1/0", "1/3", "(" * 300)} == {"?"}
    task = Calculator()
    assert (
        task.reply(["c(12*12)"]) == "144=" and task.reply(["144"]) is None and task.reply(["c(1*1)", "c(1*1)"]) is None
    )


def test_a_chat_goes_on_with_what_its_template_puts_between_two_turns():
    tokenizer = little().tokenizer
    tokenizer.chat_template, tokenizer.eos_token = CHATML, "[end]"
    told = between(tokenizer, CHAT, "no")
    assert told == "\n<user>no[end]\n<assistant>", "the end token was drawn"
    whole = tokenizer.apply_chat_template(
        [*CHAT, {"role": "assistant", "content": "seven"}, {"role": "user", "content": "no"}],
        tokenize=False,
        add_generation_prompt=True,
    )
    before = tokenizer.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True)
    assert whole == before + "seven[end]" + told, "as if the chat had been rendered whole"
    tokenizer.chat_template = CHATML.replace("[end]", "|")
    assert between(tokenizer, CHAT, "no").startswith("|\n<user>"), "a template without the end token"


@pytest.mark.parametrize("template", [FORGETS, NUMBERS])
def test_a_template_that_rewrites_earlier_turns_is_refused(template):
    """Checklist 30."""
    tokenizer = little().tokenizer
    tokenizer.chat_template = template
    with pytest.raises(
        LogpiError, match="chat template rewrites earlier turns when one is added .*change chat_template.jinja"
    ):
        between_turns(tokenizer, CHAT, "no")
    assert between_turns(tokenizer, "abc=", "ab") == "ab", "a text has no template"


def spoken(*words: str) -> list[dict[str, str]]:
    """The assistant's first."""
    return [{"role": ("assistant", "user")[k % 2], "content": x} for k, x in enumerate(words)]


@torch.no_grad()
def test_of_a_demonstrated_conversation_the_assistants_tokens_alone_are_learnt():
    policy = little(letters="abcdefghinorstuvwy.?<>")
    policy.tokenizer.chat_template = CHATML.replace("[end]\n", policy.tokenizer.eos_token)
    chat, turns = [{"role": "user", "content": "which?"}], spoken("no", "what?", "yes")
    rows = [{"prompt": chat, "completion": turns}, {"prompt": chat, "completion": "one"}]
    b, end = sft.shown(policy, Table, rows), policy.ends[0]
    said = [[*policy.encode("no"), end, *policy.encode("yes"), end], [*policy.encode("one"), end]]
    assert [b.action[k][b.mask[k]].tolist() for k in (0, 1)] == said
    whole = policy.tokenizer.apply_chat_template([*chat, *turns], tokenize=False)
    assert [int(b.obs[0, 0]), *b.action[0, :-1].tolist()] == policy.encode(whole)


@pytest.mark.parametrize(
    "said", [spoken("a", "b"), spoken("a")[::-1] * 2, [], ["a"], [{"role": "tool", "content": "a"}]]
)
def test_a_demonstration_in_which_two_do_not_take_turns_is_refused(said):
    with pytest.raises(LogpiError, match="messages of assistant and user take turns"):
        sft.shown(little(), Table, [{"prompt": "ab=", "completion": said}])
