"""`logpi tokens`: what is shown is what the run did, to the bit, whatever the method; the page asks nothing of the network."""

import copy
import json
import re
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest
import torch
from run.test_language_runs import ROWS, SMALL, run_of

import logpi
from logpi import LogpiError
from logpi.lm import lora
from logpi.methods import METHODS
from logpi.now import Now
from logpi.run import tokens
from logpi.run.files import read_json
from logpi.run.tokens_page import page, record

SIZES = {"groups": {"starts": 4, "group": 3}, "episodes": {"episodes": 12}, "segments": {"envs": 12}}
HOW = {"task": "reverse-text", "level": 3, "steps": 150, "warmup": 10}
NONE = {"method": None, "task": None}
FAST = {"lr": 0.01, "steps": 1000}  # so that something is clipped


def twice(method: str, folder, **more):
    """(the checkpoint after the first iteration, the record of the second, what was said of its rows before it)."""
    records = logpi.learn(method, **SIZES[METHODS[method]().rows] | HOW | more)
    saved = next(records).save(folder)
    record = next(records)
    return saved, record


@pytest.mark.parametrize("method", METHODS)
def test_it_tells_what_the_run_did(method, tmp_path):
    page = METHODS[method]()
    more = (FAST if hasattr(page, "lr") else {}) | ({"kl": 0.1} if hasattr(page, "reference") else {})
    saved, record = twice(method, tmp_path, **more)
    shown = tokens.tell(saved, None, 5, NONE)
    assert shown.iteration == 2 and "iteration 2, made again from step-" in shown.origin
    assert {k: shown.metrics[k] for k in record.metrics} == record.metrics
    b = tokens.flattened(record.batch)
    now = Now(record.policy, None, b).log_pi.detach()
    for row in shown.rows:
        k = row.number - 1
        ours = [x.figures for x in row.tokens if x.figures]
        for name, x in (("log_pi", b.log_pi), ("psi", b.psi), ("now", now), ("reward", b.reward), ("value", b.value)):
            if name in shown.columns:
                told = torch.tensor([x[name] for x in ours])
                torch.testing.assert_close(told, x[k][b.mask[k]].to(told), rtol=1e-5, atol=1e-6)
        ids = [int(b.obs[k, 0]), *b.action[k].tolist()][: len(row.tokens)]
        assert [x.text for x in row.tokens] == [tokens.text_of(record.policy, i) for i in ids]
    assert ("kl_ref" in shown.columns) == (record.parts.reference is not None)


def weights(method: str, tmp_path, **more) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[str]]:
    more |= {"group": 8} if METHODS[method]().rows == "groups" else {}
    saved, _ = twice(method, tmp_path, **FAST | {"lr": 0.005} | more)
    found = [x for row in tokens.tell(saved, None, 32, NONE).rows for x in row.tokens if x.figures]
    return *(torch.tensor([x.figures[k] for x in found]) for k in ("weight", "rho", "psi")), [x.why for x in found]


@pytest.mark.parametrize("method", ["grpo", "ppo", "dapo"])
def test_what_is_clipped_is_struck_and_says_why(method, tmp_path):
    weight, rho, psi, why = weights(method, tmp_path)
    high = 0.28 if method == "dapo" else 0.2
    clipped = ((rho > 1 + high) & (psi > 0)) | ((rho < 0.8) & (psi < 0))
    assert 0 < int(clipped.sum()) < len(psi)
    expected = torch.where(psi == 0, 0.0, torch.where(clipped, 0.0, rho))
    torch.testing.assert_close(weight, expected, rtol=1e-3, atol=1e-3)
    assert all(w.startswith("clipped at ratio") == bool(c) for w, c in zip(why, clipped, strict=True))


def test_a_bounded_weight_and_plain_scores_are_told_as_they_count(tmp_path):
    weight, rho, psi, why = weights("cispo", tmp_path, clip_low=0.1, clip_high=0.05)
    low, high = 0.9, 1.05
    expected = torch.where(psi == 0, 0.0, rho.clamp(low, high))
    torch.testing.assert_close(weight, expected, rtol=1e-3, atol=1e-3)
    assert any(re.fullmatch(r"counts \d\.\d\d, not its ratio", x) for x in why)
    weight, _, psi, why = weights("rloo", tmp_path / "other")
    torch.testing.assert_close(weight, (psi != 0).float(), rtol=1e-4, atol=1e-4)
    assert {*why} <= {"", "no signal: all rewards of its group are equal", "no credit: Ψ is 0"}


def test_reasons():
    told = {"psi": 1.0, "rho": 1.5, "weight": 0.0}
    assert tokens.reason(told, False) == "clipped at ratio 1.50, Ψ > 0"
    assert tokens.reason(told | {"psi": 0.0}, True) == "no signal: all rewards of its group are equal"
    assert tokens.reason(told | {"psi": 0.0}, False) == "no credit: Ψ is 0"
    assert tokens.reason(told | {"weight": 1.2}, False) == "counts 1.20, not its ratio"
    assert tokens.reason(told | {"weight": 1.5}, False) == ""


def test_text_of_others_within_a_row_is_masked(tmp_path):
    _, record = twice("reinforce", tmp_path)
    mask = record.batch.mask.clone()
    k = int(mask.sum(-1).argmax())
    where = [int(x) for x in mask[k].nonzero()[:, 0]]
    mask[k, where[1]] = False
    b = record.batch.with_(mask=mask)
    told = {"log_pi": b.log_pi, "rho": b.log_pi.exp(), "psi": b.psi, "weight": torch.ones_like(b.psi)}
    found = tokens.row(record.parts, b, told, k, k).tokens
    assert found[where[1] + 1].why == "not the model's own: masked" and found[0].why == "prompt"


def test_spaces_and_lines_can_be_seen():
    said = {1: " a", 2: "\n", 3: "", 4: "�"}
    fake = SimpleNamespace(
        tokenizer=SimpleNamespace(decode=lambda ids: said[ids[0]], convert_ids_to_tokens=lambda i: f"<{i}>")
    )
    assert [tokens.text_of(fake, k) for k in said] == ["␣a", "↵", "<3>", "<4>"]


class Balanced(HTMLParser):
    """Every tag closes; what it asks of elsewhere is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.open, self.asked, self.text = [], [], ""

    def handle_starttag(self, tag, attrs):
        self.asked += [v for k, v in attrs if k in ("src", "href")]
        if tag not in ("meta", "input", "html"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_command_shows_the_last_iteration_and_writes_one_file(call, tmp_path, monkeypatch):
    assert call(*("train", "grpo", *SMALL, *ROWS["groups"]), "--steps", "60", "--kl", "0.1")[0] == 0
    run = run_of(tmp_path)
    last = [json.loads(x) for x in (run / "metrics.jsonl").read_text().splitlines()][-1]["iteration"]
    monkeypatch.setenv("COLUMNS", "120")
    code, out, err = call("tokens", str(run), "--rows", "3")
    assert code == 0, err
    assert f"iteration {last}, made again from" in out and "the log has the same figures, to the bit" in out
    assert out.count("row ") == 3 and "π/ref" in out and "group 1 of 4: mean" in out
    file = run / "tokens" / f"iteration-{last}.html"
    text, parser = file.read_text(), Balanced()
    parser.feed(text)
    assert (
        parser.open == []
        and parser.asked == []
        and "http" not in text
        and "url(" not in text
        and "@" not in re.sub("@media", "", text)
    )
    data = json.loads(re.search(r'type="application/json">(.*?)</script>', text)[1])
    assert len(data["rows"]) == 3 and "psi" in data["columns"]
    told = read_json(file.with_suffix(".json"))
    assert [x[0] for x in told["columns"]] == data["columns"] and told["iteration"] == last
    shown = tokens.tell(run, None, 3, NONE)
    for row, mine in zip(told["rows"], shown.rows, strict=True):
        assert row["group"][row["place"]] == pytest.approx(sum(x.figures["reward"] for x in mine.tokens if x.figures))
        assert len(row["group"]) == 3 and row["number"] == mine.number
        for (text, why, figures), x in zip(row["tokens"], mine.tokens, strict=True):
            assert (text, why) == (x.text, x.why) and (figures is None) == (not x.figures)
            assert figures is None or figures == pytest.approx([x.figures[k] for k in shown.columns], rel=1e-5)
    monkeypatch.setenv("COLUMNS", "60")
    code, out, _ = call("tokens", str(run), "--step", "1", "--no-html")
    assert code == 0 and "iteration 1, made again from" in out and "π/ref" not in out
    assert sorted(x.name for x in (run / "tokens").iterdir()) == [file.name, file.with_suffix(".json").name]
    assert call("tokens", str(run), "--rows", "1", "--out", "x/y.html")[0] == 0 and (tmp_path / "x/y.html").is_file()


def test_what_is_on_the_page_is_escaped():
    token = tokens.Token("<b>&", {"psi": 1.0, "log_pi": -1.0, "rho": 1.0, "weight": 1.0}, "a < b")
    row = tokens.Row(1, "return <1>", [tokens.Token("<i>", {}, "prompt"), token])
    text = page(tokens.Rollout("<t>", 1, "<o>", {}, ["log_pi", "rho", "psi", "weight"], [row]))
    parser = Balanced()
    parser.feed(text)
    assert not {"b", "i", "t", "o"} & {*re.findall(r"<(\w+)>", text)} - {"b"} and "<b>&" not in text
    assert "<b>&" in parser.text and "return <1>" in parser.text


def test_rows_without_a_group_and_numbers_that_are_none_are_told_as_such():
    token = tokens.Token("a", {"psi": float("nan"), "log_pi": -1 / 3}, "")
    told = record(
        tokens.Rollout("t", 1, "o", {"kl": float("inf")}, ["log_pi", "psi"], [tokens.Row(1, "return 1", [token])])
    )
    found = json.loads(told, parse_constant=pytest.fail)
    assert found["rows"][0]["tokens"] == [["a", "", [-0.333333, None]]] and found["rows"][0]["group"] == []
    assert found["metrics"] == {"kl": None} and found["columns"][1] == ["psi", "Ψ", "its credit"]


def test_iterations_without_a_checkpoint_before_them_begin_at_the_start(call, tmp_path):
    assert call(*("train", "reinforce", *SMALL, "--episodes", "6"), "--steps", "60")[0] == 0
    run = run_of(tmp_path)
    for folder in (run / "checkpoints").iterdir():
        (folder / "manifest.json").write_text("")
    shown = tokens.tell(run, 2, 2, NONE)
    assert "made again from the start of the run, 1 iteration later; the log has the same figures" in shown.origin
    rows = (run / "metrics.jsonl").read_text().splitlines()
    first = json.loads(rows[0]) | {"reward": 7.0}
    (run / "metrics.jsonl").write_text("\n".join([json.dumps(first), *rows[1:]]) + "\n")
    assert tokens.tell(run, 1, 2, NONE).origin.endswith("the log has another reward")


def test_what_cannot_be_shown_is_told(call, tmp_path):
    folder = tmp_path / "none"
    folder.mkdir()
    with pytest.raises(LogpiError, match="none is not a run folder: it has no config.toml"):
        tokens.tell(folder, None, 1, NONE)
    (folder / "config.toml").write_text('[method]\nname = "ppo"\n[run]\nenv = "CartPole-v1"\n')
    with pytest.raises(LogpiError, match="is not the run of a language model: only those have tokens"):
        tokens.tell(folder, None, 1, NONE)
    (folder / "config.toml").write_text('[method]\nname = "grpo"\n[run]\ntask = "copy"\n')
    (folder / "metrics.jsonl").write_text("")
    with pytest.raises(LogpiError, match="has done no iteration yet: there is nothing to show"):
        tokens.tell(folder, None, 1, NONE)
    assert call(*("train", "reinforce", *SMALL, "--episodes", "6"), "--steps", "30")[0] == 0
    run = run_of(tmp_path)
    done = len((run / "metrics.jsonl").read_text().splitlines())
    for line, words in (
        (("--step", "99"), f"has done {done} iterations: --step is one of them, not 99."),
        (("--step", "0"), "--step is 0: allowed is a whole number 1 or more."),
        (("--rows", "0"), "--rows is 0: allowed is a whole number 1 or more."),
    ):
        code, _, err = call("tokens", str(run), *line)
        assert code == 2 and words in err
    last = str(max((run / "checkpoints").glob("step-*")))
    for step, words in (
        ("1", f"was saved after iteration {done}: --step must be more, not 1."),
        ("99", "The run ends with iteration"),
    ):
        code, _, err = call("tokens", last, "--step", step)
        assert code == 2 and words in err


def test_of_an_adapter_too(tmp_path):
    saved, record = twice("grpo", tmp_path, lora=2, kl=0.1)
    shown = tokens.tell(saved, None, 2, NONE)
    assert {k: shown.metrics[k] for k in record.metrics} == record.metrics and "kl_ref" in shown.columns
    assert lora.is_adapter(saved) and copy.copy(shown).rows
