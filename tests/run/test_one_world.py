"""What means nothing in the world that is asked for is refused, whichever way it is asked."""

import pytest

import logpi
from logpi import LogpiError
from logpi.methods import METHODS
from logpi.run.commands import train
from logpi.run.worlds import must_mean_something

LINES = {
    "ppo --task addition --length 5": "--length is of environments, and an answer ends by itself: --max-tokens is how long",
    "grpo --task addition --hidden 5": "--hidden is for environments, and this is a language model: leave it away.",
    "grpo --task addition --no-normalise-reward": "is for environments, and this is a language model: leave it away.",
    "grpo --data x.jsonl --wrap a:b": "--wrap is for environments, and this is a language model: leave it away.",
    "grpo --level 2": "--level is for language models: give --task or --data with it.",
    "ppo --env CartPole-v1 --max-tokens=3": "--max-tokens is for language models: give --task or --data with it.",
    "grpo --task addition --env CartPole-v1": "--env is an environment, --task and --data are for language models",
    "grpo --data x.jsonl --env CartPole-v1": "--env is an environment, --task and --data are for language models",
    "grpo --task addition --data x.jsonl": "--data stands in the place of --task: give one of them.",
    "ppo --task addition --like sb3": "--like has the details of a library for environments: leave it away",
    "grpo --task copy --correction masked": "--correction means nothing without --engine: give both, or neither.",
    "grpo --task copy --correction-over=token": "--correction-over means nothing without --engine: give both, or neither.",
    "grpo --kl-in reward": "--kl-in means nothing without --kl: give both, or neither.",
    "grpo --task addition --kl 0 --kl-live": "--kl-live means nothing without --kl: give both, or neither.",
    "npg --value-coef own": "logpi train npg has no flag --value-coef, which is of actor_critic, a2c, ppo, ppo_kl, mdpo.",
    "ppo --value-coef owned": "--value-coef is 'owned': allowed is a number 0 or more or own.",
    "ppo --task copy --kl-target 3": "--kl-target means nothing without --kl: give both, or neither.",
    "ppo --task copy --kl 1 --kl-horizon 3": "--kl-horizon means nothing without --kl-target: give both, or neither.",
    "ppo --task copy --value-model copy --value-coef 0": "--value-model means nothing without --value-coef: give both",
    "grpo --data= --steps 100": "data is '': allowed is a text that is not empty",
    "grpo --task copy --model=": "model is '': allowed is a text that is not empty",
    "ppo --task copy --value-model=": "--value-model is '': allowed is a text that is not empty",
    "grpo --task copy --warmup-until 0.5": "--warmup-until means nothing without --warmup: give both, or neither.",
    "ppo --data x.jsonl --level 3": "--level is of tasks, and --data has rows of its own: leave it away.",
    "grpo --task addition --length 5": "logpi train grpo has no flag --length, which is of actor_critic,",
}


@pytest.mark.parametrize("line", LINES)
def test_flags(call, tmp_path, line):
    code, _, err = call("train", *line.split())
    assert code == 2 and LINES[line] in err and len(err.splitlines()) == 1, err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (
            {"task": "copy", "length": 5},
            "length is of environments, and an answer ends by itself: max_tokens is how long",
        ),
        ({"task": "copy", "env": "Acrobot-v1"}, "env is an environment, task and data are for language models"),
        ({"task": "copy", "correction_limit": 3.0}, "correction_limit means nothing without engine: give both"),
        ({"data": "x", "level": 3}, "level is of tasks, and data has rows of its own: leave it away"),
        ({"task": "copy", "data": "x"}, "data stands in the place of task: give one of them"),
        ({"task": "copy", "hidden": (5,)}, "Neither PPO nor the run's settings have 'hidden'"),
    ],
)
def test_keywords(asked, words):
    with pytest.raises(LogpiError, match=words):
        logpi.learn("ppo", **asked)


@pytest.mark.parametrize("model", ["./dir", "tiny", None])
def test_what_a_recipe_says_of_new_models_is_for_them_alone(model):
    told = {"task": "addition"} | ({"model": model} if model else {})
    (page, text, _), name, tuned = train.defaults("grpo", METHODS["grpo"](), told, told)
    assert name == "addition/grpo" and page.lr == tuned["lr"] == 1e-4
    assert text.warmup == tuned.get("warmup", 0) == (0 if model == "./dir" else 600)
    must_mean_something({"warmup_until", "task"} if model != "./dir" else {"task"}, page, text)
