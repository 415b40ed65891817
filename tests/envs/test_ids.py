"""An environment's id comes from outside: nothing is imported for it, and a bad one is answered in one short sentence."""

import sys

import pytest

from logpi import LogpiError, envs


def refusal(env: str) -> str:
    with pytest.raises(LogpiError) as said:
        envs.make(env, 1)
    assert len(str(said.value)) < 300 and "\n" not in str(said.value) and "\0" not in str(said.value)
    return str(said.value)


def test_a_module_is_never_imported_for_an_id() -> None:
    assert "antigravity" not in sys.modules
    assert refusal("antigravity:Fly-v0") == (
        "'antigravity:Fly-v0' names a module that is not imported: pass --import antigravity."
    )
    assert "antigravity" not in sys.modules


def test_a_module_that_is_imported_may_be_named() -> None:
    assert envs.make("gymnasium:CartPole-v1", 1, "sync").backend == "sync"
    assert refusal("os:system-v0").startswith("There is no environment 'os:system-v0'.")


@pytest.mark.parametrize("env", ["../x", "", "\0", "CartPole\0-v1", "/etc/passwd", "a/b/c-v0", "%s{0}$(id)"])
def test_what_is_no_id_is_refused(env: str) -> None:
    assert refusal(env).startswith(f"There is no environment {env!r}")


@pytest.mark.parametrize("env", ["x" * 10_000, "x" * 10_000 + ":Y-v0", "no/" + "y" * 10_000 + "-v0"])
def test_a_long_one_is_refused_shortly(env: str) -> None:
    assert env[:70] in refusal(env)
