"""Nothing in the package turns bytes into code, not even after an error."""

import ast
from pathlib import Path

import pytest

import logpi

SRC = Path(logpi.__file__).parent


CALLS = {"eval", "exec", "compile", "__import__"}
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "yaml", "joblib", "jsonpickle", "runpy"}
LOADERS = {
    ("torch", "load"),
    ("torch", "save"),
    ("torch.jit", "load"),
    ("np", "load"),
    ("numpy", "load"),
    ("pd", "read_pickle"),
}


def openings(tree: ast.AST) -> list[str]:
    """Calls and imports that turn bytes into code."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found += [f"{node.lineno}: import {m}" for m in modules if m.split(".")[0] in MODULES]
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            owner, _, attribute = name.rpartition(".")
            opened = name in CALLS or (owner, attribute) in LOADERS or name == "builtins.eval"
            found += [f"{node.lineno}: {name}"] if opened else []
            found += [
                f"{node.lineno}: {k.arg}"
                for k in node.keywords
                if k.arg in ("allow_pickle", "weights_only", "trust_remote_code", "shell")
            ]
    return found


PROGRAM = "lm/scorers/program.py"  # --reward code asks for it: a process of its own runs a model's program there


def test_nothing_in_the_package_turns_bytes_into_code() -> None:
    found = {str(f.relative_to(SRC)): openings(ast.parse(f.read_text())) for f in sorted(SRC.rglob("*.py"))}
    assert [x.partition(": ")[2] for x in found.pop(PROGRAM)] == ["import runpy"]
    assert len(found) > 50 and {k: v for k, v in found.items() if v} == {}


def test_no_module_imports_what_runs_programs() -> None:
    text = {f: f.read_text() for f in SRC.rglob("*.py")}
    assert [f.name for f, x in text.items() if "scorers.program " in x or "scorers import program\n" in x] == []
    assert {f.name for f, x in text.items() if '"program.py"' in x} == {"program.py", "programs.py"}


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "import runpy",
        "from pickle import loads",
        "import yaml as y",
        "eval(x)",
        "exec(x)",
        "torch.load(f)",
        "torch.load(f, weights_only=True)",
        "f(weights_only=False)",
        "np.load(f)",
        "f(allow_pickle=True)",
        "__import__(x)",
        "subprocess.run(x, shell=True)",
    ],
)
def test_that_search_finds_what_it_looks_for(line: str) -> None:
    assert openings(ast.parse(f"def f():\n    {line}")) != []
