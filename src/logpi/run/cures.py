"""What can be done about a run: fields of its page, and flags of its world, never those of another."""

from dataclasses import fields
from typing import Any

from logpi.methods import METHODS
from logpi.run.language import Text
from logpi.run.setup import Settings

SMALLER = {
    "lr": "a lower learning rate (a tenth)",
    "epochs": "fewer epochs",
    "target_kl": "a target_kl",
    "delta": "a smaller delta",
}
LARGER = {"lr": "a larger learning rate", "delta": "a larger delta"}
LESS, MORE = {"entropy": "a smaller entropy bonus"}, {"entropy": "a larger entropy bonus"}
CRITIC = {
    "value_coef": "another value_coef",
    "epochs": "more epochs",
    "critic_lr": "a larger critic_lr",
    "critic_epochs": "more critic_epochs",
    "normalise_reward": "--normalise-reward",
    "value_model": "--value-model copy",
}


def either(log: Any, cures: dict[str, str]) -> str:
    """Field -> what to do with it, of those that this run has: 'a, b or c'."""
    page = METHODS.get(log.method.get("name", ""))
    here = {*log.method, *(f.name for x in (page, Text if log.text else Settings) if x for f in fields(x))}
    *most, last = [words for field, words in cures.items() if field in here] or [
        "another method: this one has no setting"
    ]
    return f"{', '.join(most)} or {last}" if most else last
