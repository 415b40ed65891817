"""Every code block of the README and the docs, and every example runs as it stands (training cut short)."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from logpi.run.cli import dispatch

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "docs"))
import consoles  # noqa: E402

PAGES = {
    p.name: re.findall(r"```(\w+)\n(.*?)```", p.read_text(), re.DOTALL)
    for p in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
}
PYTHON = [text for blocks in PAGES.values() for kind, text in blocks if kind == "python"]
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


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{p.name}" for p in sorted((ROOT / "docs").glob("*.md")))])
def test_what_a_page_links_to_is_there(page):
    file = ROOT / page
    links = re.findall(r"\]\(([^)#]+)\)", file.read_text())
    assert all((file.parent / link).exists() for link in links if "://" not in link), links


def test_every_metric_that_is_logged_is_explained():
    import logpi

    explained = set(re.findall(r"`(\w+)`", (ROOT / "docs" / "runs.md").read_text().split("## Metrics")[1]))
    for method in logpi.METHODS:
        record = next(logpi.learn(method, steps=100))
        logged = {"iteration", "steps", "seconds", *record.metrics}
        assert logged <= explained, logged - explained
