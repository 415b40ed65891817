"""Every code block of the README and the docs, and every example runs as it stands (training cut short)."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from logpi.lab.maths import slug
from logpi.run.cli import dispatch

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "docs"))
import consoles  # noqa: E402


def blocks(file: Path) -> list[tuple[str, str]]:
    """The (kind, text) of a page's fenced blocks; the commands that stand alone in the last cell of a table are shell, too."""
    text = file.read_text()
    cells = dict.fromkeys(re.findall(r"\| `(logpi [^`]+)` \|$", text, re.MULTILINE))
    return [*re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL), *(("sh", x) for x in cells)]


FILES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
GUIDE = sorted((ROOT / "docs" / "guide").rglob("*.md"))  # its Python is a program: test_guide.py
PAGES = {p.name: blocks(p) for p in FILES} | {f"guide/{p.stem}": blocks(p) for p in GUIDE}
PYTHON = [text for file in FILES for kind, text in PAGES[file.name] if kind == "python"]
EPISODES = {"eval": "2", "variance": "64"}
SHORT = "--steps 2048 --evaluate 0 --no-plot --quiet"
ENV = "from logpi.envs.cartpole import CartPole\nimport gymnasium as gym\n\ndef MyEnv():\n    return gym.make('CartPole-v1')\n"
LOSS = "import torch\n\ndef my_loss(log_pi, reward, mask):\n    return -torch.where(mask, log_pi * reward.sum(-1, keepdim=True), 0.0).sum(-1).mean()\n"
NET = "from logpi.policy.networks import mlp\n\ndef build(inputs, outputs):\n    return mlp(inputs, outputs, (16,))\n"


def python(*args: str, cwd: Path) -> str:
    env = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    done = subprocess.run([sys.executable, *args], cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("text", [t for t in PYTHON if not t.startswith("# mine.py")])
def test_python_blocks_run(text, tmp_path):
    (tmp_path / "block.py").write_text(text)
    python("block.py", cwd=tmp_path)


@pytest.mark.timeout(900)
@pytest.mark.timeout(1200)  # a page may have thirty commands
@pytest.mark.parametrize("page", [name for name, blocks in PAGES.items() if any(kind == "sh" for kind, _ in blocks)])
def test_shell_blocks_run_in_their_order(page, tmp_path):
    (tmp_path / "mine.py").write_text(next(t for t in PYTHON if t.startswith("# mine.py")))
    (tmp_path / "myenv.py").write_text(ENV)
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "losses.py").write_text(LOSS)
    lines = [line.split("#")[0].strip() for kind, text in PAGES[page] if kind == "sh" for line in text.splitlines()]
    ran = 0
    for line in lines:
        words = shlex.split(line)
        if words[:1] != ["logpi"]:
            continue  # make run and make test are what .ci/run itself calls
        if words[1] == "train" and "--help" not in words:
            words += SHORT.split() + (["--warmup", "10"] if "--task" in words and "--model" not in words else [])
        expanded = [str(p) for w in words[1:] for p in (sorted(tmp_path.glob(w)) if "*" in w else [w])]
        if words[1] in EPISODES and "--episodes" not in words:
            expanded += ["--episodes", EPISODES[words[1]]]
        python("-m", "logpi", *expanded, cwd=tmp_path)
        ran += 1
    assert ran >= (12 if page == "README.md" else 1)
    assert page != "README.md" or all((tmp_path / f).stat().st_size > 5_000 for f in ("curves.png", "out.mp4"))


@pytest.mark.parametrize("page", consoles.PAGES)
def test_consoles_show_what_the_commands_print(page, capsys):
    shown = consoles.BLOCK.findall((ROOT / "docs" / page).read_text())
    assert shown
    for command, text in shown:
        dispatch(shlex.split(command)[1:])
        said = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
        assert said == text.splitlines(), f"{command} prints something else now: python docs/consoles.py"


def test_readme_table_names_every_method():
    from logpi import METHODS

    table = re.findall(r"^\| `(\w+)` \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert table == list(METHODS)


@pytest.mark.parametrize("script", sorted((ROOT / "examples").glob("*.py")), ids=lambda p: p.stem)
def test_examples_run_and_are_short(script, tmp_path):
    assert len(script.read_text().splitlines()) < 40
    said = python(str(script), cwd=tmp_path)
    assert said.strip()
    if script.stem == "rlhf":
        first, *_, last = re.findall(r"reward +(\S+), .* policy (\S+), .* truth +(\S+)", said)
        reward, kl, truth = ((float(a), float(b)) for a, b in zip(first, last, strict=True))
        assert reward[1] > reward[0] + 2 and truth[1] > truth[0] + 0.3 and abs(kl[0]) < 1e-3 and kl[1] < 6


def anchors(file: Path) -> set[str]:
    text = re.sub(r"```.*?```", "", file.read_text(), flags=re.DOTALL)
    return {slug(x) for x in re.findall(r"^#+ (.*)$", text, re.MULTILINE)} | {
        *re.findall(r'<a id="([^"]+)"></a>', text)
    }


@pytest.mark.parametrize("file", [*FILES, *GUIDE], ids=lambda p: p.relative_to(ROOT).as_posix())
def test_what_a_page_links_to_is_there(file):
    for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", file.read_text(), flags=re.DOTALL)):
        if "://" not in link:
            path, _, anchor = link.partition("#")
            target = file.parent / path if path else file
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


def test_papers_name_every_method():
    from logpi import METHODS

    named = set(re.findall(r"\(\.\./src/logpi/methods/(\w+)\.py\)", (ROOT / "docs" / "papers.md").read_text()))
    assert named == {*METHODS}


def test_every_metric_that_is_logged_is_explained():
    import logpi

    explained = set(re.findall(r"`(\w+)`", (ROOT / "docs" / "runs.md").read_text().split("## Metrics")[1]))
    for method in logpi.METHODS:
        record = next(logpi.learn(method, steps=100))
        logged = {"iteration", "steps", "seconds", *record.metrics}
        assert logged <= explained, logged - explained
