"""`logpi lab export`: what the API answers, as files; a control is offered with the values that have answers."""

import asyncio
import json
import sys

import pytest
from made_runs import kept_by, made_run

from logpi.errors import LogpiError
from logpi.lab import demos, export, guide
from logpi.run import cli


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of two demonstrations, two seeds of each answer, and of some runs."""
    runs = tmp_path_factory.mktemp("made") / "secret-place" / "runs"
    for seed in range(2):
        made_run(runs / "CartPole-v1" / "ppo" / f"{seed}-20261130-12000{seed}", "ppo", seed, gap=range(5, 8))
    kept_by(runs / "CartPole-v1" / "ppo" / "0-20261130-120000")
    out = tmp_path_factory.mktemp("copied") / "copy"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "DEMOS", {name: demos.DEMOS[name] for name in ("bandit", "advantage")})
        patch.setattr(export, "MORE", {"bandit": [{"moves": "0"}, {"moves": "0s"}]})
        told = export.export(out, runs, seeds=2)
    return out, runs, told


def read(copy, request):
    index = json.loads((copy / "api" / "index.json").read_text())
    return json.loads((copy / index[request]).read_text())


def test_every_answer_is_the_demonstrations_own_to_six_digits(copy):
    for name in ("bandit", "advantage"):
        told = read(copy[0], f"api/demos/{name}")
        live = demos.describe(name)
        assert {k: told[k] for k in ("title", "idea", "formula", "shown")} == {
            k: live[k] for k in ("title", "idea", "formula", "shown")
        }
        defaults = {f["name"]: f["default"] for f in live["params"]}
        assert told["answers"][0] == {"params": {}, "seed": 0} and told["seeds"] == 2
        for k in (0, len(told["answers"]) // 2, len(told["answers"]) - 1):
            asked = told["answers"][k]
            found = demos.answer(name, defaults | asked["params"], asked["seed"])
            assert read(copy[0], f"api/demos/{name}/{k}") == json.loads(export.compact(found))


def test_a_control_has_the_values_that_are_answered_each_alone_at_each_seed(copy):
    told = read(copy[0], "api/demos/bandit")
    fields = {f["name"]: f for f in told["params"]}
    assert fields["lr"]["kind"] == "choice" and fields["lr"]["choices"] == [0.01, 0.14, 0.3, 2]
    assert fields["baseline"]["choices"] == ["none", "mean"] and fields["reveal"]["kind"] == "flag"
    for field in fields.values():
        for value in {*field.get("choices", ())} - {field["default"]}:
            for seed in range(2):
                assert {"params": {field["name"]: value}, "seed": seed} in told["answers"]
    assert {"params": {"moves": "0s"}, "seed": 1} in told["answers"]


def test_what_has_no_answer_is_not_offered():
    field = {"name": "lr", "kind": "float", "default": 0.3, "low": 0.01, "high": 2, "label": "lr", "help": ""}
    assert export.offered(field, [])["kind"] == "text" and export.offered(field, [2])["choices"] == [0.3, 2]
    assert export.offered(field | {"kind": "flag", "default": False}, [])["kind"] == "text"
    named = {"name": "x", "kind": "choice", "choices": ["a", "b", "c"], "default": "b"}
    assert export.offered(named, ["c"])["choices"] == ["b", "c"]


def test_a_refused_value_is_not_an_answer(monkeypatch):
    class Strict:
        async def __call__(self, scope, receive, send):
            body = json.loads((await receive())["body"] or "null")
            told = {"params": [{"name": "a", "kind": "flag", "default": False}]}
            status = 400 if body and body["params"]["a"] else 200
            await send({"type": "http.response.start", "status": status})
            await send({"type": "http.response.body", "body": json.dumps(body or told).encode()})

    site = export.Copy(Strict())
    assert asyncio.run(export.demonstration(site, "x", 1)) == 1
    told = json.loads(site.files[site.index["api/demos/x"]])
    assert told["params"][0]["kind"] == "text" and told["answers"] == [{"params": {}, "seed": 0}]


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ({"kind": "float", "low": 0.01, "high": 1, "default": 0.3}, [0.01, 0.1, 0.3, 1]),
        ({"kind": "float", "low": -3, "high": 3, "default": 0.0}, [-3, 0, 3]),
        ({"kind": "int", "low": 2, "high": 4, "default": 3}, [2, 3, 4]),
        ({"kind": "int", "low": 0, "high": 20, "default": 5}, [0, 5, 10, 20]),
        ({"kind": "int", "low": None, "high": None, "default": 5}, [5]),
        ({"kind": "text", "default": None}, [None]),
    ],
)
def test_a_few_values_span_a_control(field, values):
    assert export.few(field) == values


def test_a_request_is_written_as_a_browser_writes_it():
    assert export.query(run="a b/é~*-._&=+%'", name="x") == "run=a+b%2F%C3%A9%7E*-._%26%3D%2B%25%27&name=x"


def test_curves_and_what_runs_keep_are_there_as_they_are_now(copy):
    out, runs, told = copy
    listed = read(out, "api/runs")
    assert len(listed) == 2 and "2 runs" in told and "left out" not in told
    picture = read(out, "api/runs/stream?x=seconds")
    group = picture["charts"][0]["groups"][0]
    assert len(group["lines"]) == 2 and group["mean"] is not None
    name = export.query(run="CartPole-v1/ppo/0-20261130-120000")
    files = read(out, f"api/runs/kept?{name}")["files"]
    assert {x["name"] for x in files} >= {"video/a.mp4", "video/a.json", "tokens/iteration-2.json"}
    index = json.loads((out / "api" / "index.json").read_text())
    film = out / index[f"api/runs/kept?{name}&{export.query(name='video/a.mp4')}"]
    assert film.suffix == ".mp4" and film.read_bytes() == (runs / listed[1]["id"] / "video" / "a.mp4").read_bytes()


def test_the_pages_are_the_labs_own_and_no_file_names_the_machine(copy):
    out, runs, _ = copy
    for name, file in export.FILES.items():
        if name != "index.html":
            assert (out / "static" / name).read_bytes() == file.read_bytes()
    page = (out / "index.html").read_text()
    assert "<html data-copy" in page and "default-src 'self'" in page and "frame-ancestors" not in page
    assert read(out, "api/lab")["runs"] == "runs"
    for file in (x for x in out.rglob("*") if x.is_file()):
        assert b"secret-place" not in file.read_bytes(), file
    index = json.loads((out / "api" / "index.json").read_text())
    assert {*index.values()} == {x.relative_to(out).as_posix() for x in (out / "api").iterdir()} - {"api/index.json"}


def test_the_guide_is_in_it_with_its_figures(copy):
    out, _, told = copy
    assert "the guide" in told
    for name in ("index", "03-baselines", "solutions/03-baselines"):
        assert read(out, f"api/guide/{name}") == guide.fragment(name)
    figures = [x for x in read(out, "api/guide/03-baselines")["html"].split('"') if x.endswith(".svg")]
    assert figures and all((out / x).is_file() for x in figures)


@pytest.mark.parametrize("what", ["full", "file"])
def test_what_is_there_is_not_written_over(tmp_path, what):
    out = tmp_path / "out"
    if what == "full":
        out.mkdir()
        (out / "mine").write_text("")
    else:
        out.write_text("")
    with pytest.raises(LogpiError, match="out is there already: logpi lab export writes into a new folder"):
        export.export(out)


@pytest.mark.parametrize(("extra", "module"), [("lm", "transformers"), ("lab", "markdown")])
def test_a_copy_that_lacks_an_extra_is_not_written(tmp_path, monkeypatch, extra, module):
    guide._fragment.cache_clear()
    monkeypatch.setattr(export, "DEMOS", {})
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(LogpiError, match=rf'pip install "logpi\[{extra}\]"'):
        export.export(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_runs_that_are_not_there_or_too_large_are_told(tmp_path, monkeypatch, copy):
    with pytest.raises(LogpiError, match="There is no folder .*none: --runs is where runs are"):
        export.export(tmp_path / "out", tmp_path / "none")
    monkeypatch.setattr(export, "DEMOS", {})
    monkeypatch.setattr(export, "LARGEST", 1000)
    with pytest.raises(
        LogpiError, match="A copy with the curves of .* is larger than 0 MB: name a folder of fewer runs"
    ):
        export.export(tmp_path / "out", copy[1])
    assert not (tmp_path / "out").exists()


def test_what_finds_no_room_is_left_out_and_counted(tmp_path, monkeypatch, copy):
    monkeypatch.setattr(export, "DEMOS", {})
    monkeypatch.setattr(export, "LARGEST", 100_000 + sum(x.stat().st_size for x in copy[0].rglob("*") if x.is_file()))
    large = copy[1] / "CartPole-v1" / "ppo" / "1-20261130-120001" / "video"
    large.mkdir()
    (large / "large.gif").write_bytes(b"x" * 1_000_000)
    told = export.export(tmp_path / "out", copy[1])
    assert "2 runs (1 of their films and traces left out for their size)" in told
    assert max(x.stat().st_size for x in (tmp_path / "out" / "api").iterdir()) < 1_000_000


def call(monkeypatch, capsys, *line):
    monkeypatch.setattr(sys, "argv", ["logpi", "lab", *line])
    with pytest.raises(SystemExit) as end:
        cli.main()
    out, err = capsys.readouterr()
    return end.value.code or 0, " ".join(out.split()), err


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(export, "DEMOS", {})
    monkeypatch.setattr(guide, "TEXTS", {"index": guide.TEXTS["index"]})
    code, out, err = call(monkeypatch, capsys, "export", "out")
    assert (
        (code, err) == (0, "")
        and "written to out: 0 demonstrations with 0 pictures, the guide, " in out
        and " MB" in out
    )
    code, out, err = call(monkeypatch, capsys, "export", "out")
    assert code == 2 and err == "logpi: out is there already: logpi lab export writes into a new folder.\n"
    code, out, _ = call(monkeypatch, capsys, "export", "--help")
    assert code == 0 and "--runs" in out and "http.server" in out
    assert "logpi lab export DIR" in call(monkeypatch, capsys, "--help")[1]
    assert json.loads((tmp_path / "out" / "api" / "index.json").read_text()).keys() == {
        "api/lab",
        "api/guide/index",
    }


@pytest.mark.slow
def test_the_whole_copy_is_bounded_and_every_control_is_in_it(tmp_path):
    export.export(tmp_path / "out", seeds=export.SEEDS)
    assert sum(x.stat().st_size for x in (tmp_path / "out").rglob("*") if x.is_file()) < 10_000_000
    for name in demos.DEMOS:
        told = read(tmp_path / "out", f"api/demos/{name}")
        live = demos.describe(name)["params"]
        assert len(told["answers"]) == len([*export.asked(name, live, export.SEEDS)]), name
