"""A folder runs no code: what was the user's own is named again. And the two worlds do not mix."""

import pytest

import logpi
from logpi import LogpiError
from logpi.run import language


def test_a_run_is_loaded_with_the_extra_or_one_sentence(monkeypatch, tmp_path):
    text = next(logpi.learn("grpo", task="copy", starts=2, group=2, steps=10)).save(tmp_path)
    assert logpi.load(text).tokenizer is not None
    monkeypatch.setattr(language, "find_spec", lambda _: None)
    with pytest.raises(LogpiError, match=r'Language models need transformers: pip install "logpi\[lm\]"'):
        logpi.load(text)


def test_an_environment_and_a_task_are_two_worlds(call):
    code, _, err = call("train", "grpo", "--task", "copy", "--env", "CartPole-v1")
    assert code == 2 and "--task and --data are for language models: give one of them" in err


def test_a_task_of_the_users_is_named_again(call, tmp_path):
    (tmp_path / "mine.py").write_text("from logpi.lm.tasks.texts import Copy\n\n\nclass Mine(Copy):\n    pass\n")
    words = ("--starts", "2", "--quiet", "--no-plot", "--evaluate", "0", "--steps", "50")
    assert call("train", "grpo", "--task", "mine.py:Mine", *words)[0] == 0
    run = str(next((tmp_path / "runs").glob("*/*/*")))
    for command in (
        ("eval", run, "--episodes", "2"),
        ("resume", run, "--steps", "300", "--quiet", "--evaluate", "0"),
    ):
        code, _, err = call(*command)
        assert code == 2 and "pass it again, --task mine.py:Mine" in err
        assert call(*command, "--task", "mine.py:Mine")[0] == 0


def test_a_folder_runs_no_reward_function_until_it_is_named_again(call, tmp_path):
    (tmp_path / "mine.py").write_text(
        "open('ran', 'a').write('x')\n\ndef f(prompts, completions, **columns):\n    return [0.5] * len(prompts)\n"
    )
    words = ("--starts", "2", "--quiet", "--no-plot", "--evaluate", "0", "--steps", "50")
    assert call("train", "grpo", "--task", "copy", "--reward", "mine.py:f", *words)[0] == 0
    (tmp_path / "ran").unlink()
    run = next((tmp_path / "runs").glob("*/*/*"))
    config = ("train", "grpo", "--task", "copy", "--config", str(run / "config.toml"), "--steps", "60")
    for command in (
        ("eval", str(run), "--episodes", "2"),
        ("resume", str(run), "--steps", "300", "--quiet"),
        ("tokens", str(run), "--no-html"),
        config,
    ):
        code, _, err = call(*command)
        assert code == 2 and "names rewards of yours: pass them again, --reward mine.py:f" in err
        assert not (tmp_path / "ran").exists()
        assert call(*command, "--reward", "mine.py:f")[0] == 0
        (tmp_path / "ran").unlink()
