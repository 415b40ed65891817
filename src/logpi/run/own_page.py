"""The page that a run was trained with, ready for its gradient to be measured; or why it is not."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import torch

from logpi.average import Kind, weights
from logpi.errors import LogpiError
from logpi.methods import METHODS
from logpi.page import option
from logpi.run import checkpoint, config
from logpi.run.files import read_json
from logpi.run.pack import read_tensors, unpack
from logpi.run.setup import find_method


@dataclass(frozen=True)
class Own:
    """What a run was trained with."""

    name: str  # of its method
    given: dict[str, Any] = field(default_factory=dict)  # gamma, lam and average, as far as it has them
    page: Any = None
    state: dict[str, Any] = field(default_factory=dict)  # the adaptive one
    missing: str = ""  # why its gradient cannot be told


def own(run: Path, method: str | None) -> Own:
    """The page of a run's newest checkpoint, as its config.toml has it; the user's own is loaded where `method` names it."""
    folder, _ = checkpoint.choose(run)
    asked = config.read(folder / "config.toml")
    name = str(asked["method"]["name"])
    if name in METHODS and method is not None:
        raise LogpiError(f"--method {method} trains a policy, and {run} has one: leave --method away, or the run.")
    config.must_be(asked, method or name, folder / "config.toml")
    if name not in METHODS and method is None:
        told: dict[str, Any] = {k: asked["method"][k] for k in ("gamma", "lam") if k in asked["method"]}
        return Own(name, told, missing=f"it is yours, and is loaded with --method {name}")
    page = config.fill(find_method(method or name), asked["method"], str(folder))
    told = {k: getattr(page, k) for k in ("gamma", "lam") if hasattr(page, k)} | averaging(page)
    state = unpack(read_json(folder / "trainer.json"), read_tensors(folder / "trainer.safetensors"))["state"]
    needs = {
        "it needs a reference policy": option(page, "reference"),
        "it needs its Q critic": page.critic == "q",
        "it compares groups from one start": page.rows == "groups",
    }
    return Own(name, told, page, state, next((why for why, needed in needs.items() if needed), ""))


def averaging(page: Any) -> dict[str, Any]:
    """{'average': the kind that a page's is}, or nothing where it is none of them (one with a budget, or the user's)."""
    mask = torch.tensor([[True, True, True], [True, False, False]])
    said = page.average(mask).double()
    kinds = [k for k in get_args(Kind) if k != "per_budget"]
    same = [k for k in kinds if torch.allclose(said, weights(k, mask).double())]
    return {"average": same[0]} if same else {}
