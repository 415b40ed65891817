"""A wheel holds the guide, though its source is docs/guide."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
SHOW = "from logpi.lab import guide; print(guide.__file__, *guide.TEXTS, *guide.FIGURES, len(guide.fragment('index')['html']))"


def test_an_installed_lab_shows_the_guide(tmp_path):
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    for name in ("src", "docs"):
        shutil.copytree(
            ROOT / name,
            tree / name,
            symlinks=True,
            ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "*.gif", "*.png"),
        )
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "-w",
        tmp_path,
        tree,
    ]
    made = subprocess.run(command, capture_output=True, text=True)
    assert made.returncode == 0, made.stdout + made.stderr
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {x for x in archive.namelist() if x.startswith("logpi/lab/chapters/")}
        archive.extractall(tmp_path / "installed")
    guide = ROOT / "docs" / "guide"
    assert held == {
        f"logpi/lab/chapters/{x.relative_to(guide)}" for x in guide.rglob("*") if x.suffix in (".md", ".svg")
    }
    run = subprocess.run(
        [sys.executable, "-c", SHOW],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "installed")},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    place, *names, size = run.stdout.split()
    assert Path(place).is_relative_to(tmp_path / "installed") and int(size) > 1000
    assert len(names) == len(held) and "index" in names
