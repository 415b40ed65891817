"""The house's limits, held by a machine: file 300 lines, function 60, nesting 4, method page 60, a name for each test file. Run by `make lint`."""

import ast
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDERS = ("src", "tests", "examples", "benchmarks")
BLOCKS = (ast.If, ast.For, ast.While, ast.With, ast.Try, ast.Match)


def depth(node: ast.AST, inside: int = 0) -> int:
    """How deep blocks nest below a function; an elif is no deeper than its if."""
    deepest = inside
    for field, child in ast.iter_fields(node):
        for part in child if isinstance(child, list) else [child]:
            if isinstance(part, ast.FunctionDef | ast.ClassDef) or not isinstance(part, ast.AST):
                continue
            chained = field == "orelse" and isinstance(node, ast.If) and isinstance(part, ast.If) and len(child) == 1
            deepest = max(deepest, depth(part, inside + (isinstance(part, BLOCKS) and not chained)))
    return deepest


def broken(file: Path) -> list[str]:
    text = file.read_text()
    name, lines, found = file.relative_to(ROOT), len(text.splitlines()), []
    limit = 60 if file.parent.name == "methods" and file.name != "__init__.py" else 300
    if lines > limit:
        found.append(f"{name}: {lines} lines, at most {limit}")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > 60:
                found.append(f"{name}:{node.lineno}: {node.name} has {length} lines, at most 60")
            if depth(node) > 4:
                found.append(f"{name}:{node.lineno}: {node.name} nests {depth(node)} deep, at most 4")
    return found


def twice(tests: Path) -> dict[str, int]:
    """pytest imports its files by their bare names: of two with one name the second is not collected."""
    return {name: n for name, n in Counter(f.name for f in tests.rglob("test_*.py")).items() if n > 1}


if __name__ == "__main__":
    faults = [fault for folder in FOLDERS for file in sorted((ROOT / folder).rglob("*.py")) for fault in broken(file)]
    faults += [f"{name}: {n} test files have this name" for name, n in twice(ROOT / "tests").items()]
    print("\n".join(faults) or "limits: all held")
    sys.exit(bool(faults))
