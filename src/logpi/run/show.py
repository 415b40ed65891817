"""`logpi methods` and `logpi show`: read from the pages themselves."""

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Sequence
from types import FunctionType, ModuleType
from typing import Any

from logpi import loop as loop_module
from logpi.methods import METHODS

MEMBERS = ("psi", "objective", "average", "step")
FACTORS = ("logpi.psi", "logpi.objective", "logpi.average", "logpi.kl", "logpi.step")

TWIN = r"^@(twinned\(.*\)|fusable)\n"


def methods_table() -> list[tuple[str, ...]]:
    """(name, psi, objective, average, step) of each method, from what its members call; in brackets what a field turns on."""
    return [(name, *(_cell(page, member) for member in MEMBERS)) for name, page in METHODS.items()]


def _cell(page: type, member: str) -> str:
    function = vars(page)[member]
    if member == "average":
        return ", ".join(_words(function))
    called = _called(function, page).items()
    spoken = [f"({_spoken(f)})" if optional else _spoken(f) for f, optional in called]
    if member == "objective":
        asked = [
            n.attr for n in ast.walk(_tree(function)) if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)
        ]
        spoken += [name.replace("_", " ") for name in ("kl_old", "kl_new", "entropy") if name in asked]
    if member == "step" and "epochs" in page.__dataclass_fields__:  # type: ignore[attr-defined]
        spoken.append("epochs x minibatches")
    return ", ".join(spoken)


def page_source(page: type) -> str:
    """The page, and under it the source of exactly the functions it calls, then the loop that calls the page."""
    module = inspect.getmodule(page)
    parts = [inspect.getsource(module) if module is not None else inspect.getsource(page)]
    seen: list[FunctionType] = []
    members = [x for x in vars(page).values() if inspect.isfunction(x) and not x.__name__.startswith("__")]
    todo = [f for member in members for f in _called(member)]
    while todo:
        function = todo.pop(0)
        if function not in seen:
            seen.append(function)
            todo += list(_called(function))
    for name in dict.fromkeys(f.__module__ for f in seen):
        own = sorted((f for f in seen if f.__module__ == name), key=lambda f: f.__code__.co_firstlineno)
        parts.append(_section(name, own))
    parts.append(_section(loop_module.__name__, [loop_module.loop, loop_module.update]))
    return "\n".join(parts)


def _section(module: str, functions: Sequence[Callable[..., Any]]) -> str:
    """The functions of one module; which of them have a fast twin stands in the head, not as a decorator on each."""
    found = [inspect.getsource(f).rstrip() for f in functions]
    twins = [f.__name__ for f, text in zip(functions, found, strict=True) if re.search(TWIN, text, re.MULTILINE)]
    note = f"  (with fast twins: {', '.join(twins)})" if twins else ""
    return f"# {'-' * 20} {module}{note}\n" + "\n\n".join(re.sub(TWIN, "", x, flags=re.MULTILINE) for x in found) + "\n"


def _tree(function: FunctionType) -> ast.AST:
    return ast.parse(textwrap.dedent(inspect.getsource(function)))


def _called(function: Any, page: type | None = None) -> dict[FunctionType, bool]:
    """The functions of the factor rooms that a function names, in its order; True where only a condition leads to them.

    Members of the page that it calls as self.name(...) are followed.
    """
    found: dict[FunctionType, bool] = {}

    def visit(node: ast.AST, optional: bool) -> None:
        for thing in _named(node, function.__globals__):
            if inspect.isfunction(thing) and thing.__module__.startswith(FACTORS):
                thing = inspect.unwrap(thing)
                found[thing] = found.get(thing, True) and optional
        if (
            page is not None
            and isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "self"
        ):
            member = vars(page).get(node.attr)
            for inner, _ in _called(member).items() if inspect.isfunction(member) else ():
                found.setdefault(inner, True)
        for child in ast.iter_child_nodes(node):
            branch = isinstance(node, ast.If | ast.IfExp) and child is not node.test
            visit(child, optional or branch)

    visit(_tree(function), False)
    return found


def _named(node: ast.AST, space: dict[str, Any]) -> list[Any]:
    """What a name or an attribute of a module stands for; the values of a literal table of functions."""
    if (
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and isinstance(space.get(node.value.id), ModuleType)
    ):
        return [getattr(space[node.value.id], node.attr, None)]
    if isinstance(node, ast.Name):
        thing = space.get(node.id)
        return list(thing.values()) if isinstance(thing, dict) and node.id.isupper() else [thing]
    return []


def _words(function: FunctionType) -> list[str]:
    """The names that a function passes on as text: the kind of an average."""
    texts = [x.value for x in ast.walk(_tree(function)) if isinstance(x, ast.Constant) and isinstance(x.value, str)]
    return [text.replace("_", " ") for text in texts]


def _spoken(function: FunctionType) -> str:
    name = function.__name__.replace("_", " ")
    return f"KL {name}" if function.__module__ == "logpi.kl" else name
