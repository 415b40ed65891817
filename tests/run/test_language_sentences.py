"""What cannot be done with a language model is one sentence, and nothing is written."""

import json
import random
import shutil
import sys

import pytest
import torch

import logpi
from logpi import LogpiError
from logpi.lm import data, letters, pretrained
from logpi.lm.tasks import draw
from logpi.lm.tasks.texts import Copy
from logpi.policy.tokens import Tokens
from logpi.run import checkpoint, language, policies


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A model folder that is as it should be."""
    folder = tmp_path_factory.mktemp("models") / "whole"
    pretrained.save(*pretrained.begin("tiny", Copy.letters), folder)
    return folder


@pytest.fixture
def model(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "model")


def without_weights(model):
    (model / "model.safetensors").unlink()


def with_a_pickle(model):
    (model / "model.safetensors").rename(model / "pytorch_model.bin")


def without_config(model):
    (model / "config.json").unlink()


def with_a_broken_config(model):
    (model / "config.json").write_text("{")


def of_an_unknown_kind(model):
    (model / "config.json").write_text('{"model_type": "no-such-model"}')


def with_more_tokens(model):
    letters.letters(Copy.letters + "ABCDEFGHIJKLMNOP").save_pretrained(model)


def without_an_end(model):
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (model / name).exists():
            found = json.loads((model / name).read_text())
            (model / name).write_text(json.dumps({k: v for k, v in found.items() if k != "eos_token"}))


BROKEN = {
    without_weights: r"has no weights as safetensors \(none\): save it with safetensors",
    with_a_pickle: r"has no weights as safetensors \(only pytorch_model.bin, and a pickle can run code\)",
    without_config: "is no model: it has no config.json",
    with_a_broken_config: "config.json is not JSON",
    of_an_unknown_kind: "cannot be loaded: .*no-such-model",
    with_more_tokens: "The tokenizer of .* has 44 tokens, its model 28: they are of two different models",
    without_an_end: "The tokenizer of .* has no end token",
}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda f: f.__name__)
def test_a_broken_model_folder(broken, model, call, tmp_path):
    broken(model)
    code, _, err = call("train", "grpo", "--task", "copy", "--model", str(model), "--quiet")
    assert code == 2 and len(err.splitlines()) == 1
    with pytest.raises(LogpiError, match=BROKEN[broken]):
        pretrained.load(str(model))
    assert not (tmp_path / "runs").exists()


def test_logits_that_are_changed_after_the_projection_are_refused():
    class Capped(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner
            self.get_output_embeddings, self.get_decoder = inner.get_output_embeddings, inner.get_decoder

        def forward(self, input_ids):
            said = self.inner(input_ids=input_ids)
            return type(said)(logits=said.logits.tanh())

    inner, tokenizer = pretrained.begin("tiny", Copy.letters)
    with pytest.raises(LogpiError, match="changes its logits after the projection"):
        pretrained.must_match(Capped(inner), tokenizer, "it")


WORDS = {
    ("--task", "copy", "--model", "./nowhere"): r"There is no folder \./nowhere",
    ("--task", "copy", "--level", "0"): "whole number 1 or more",
    ("--task", "copy", "--max-tokens", "600"): "longer than the model's context of 512",
    ("--task", "copy", "--reference", "x"): "no KL to a reference policy",
    ("--data", "rows.jsonl", "--max-tokens", "4"): "Data need a model that reads them",
    ("--data", "rows.jsonl", "--model", "MODEL"): "How long may an answer be",
    ("--task", "copy", "--env", "CartPole-v1"): "--task and --data are for language models: give one",
}


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_words_that_do_not_go_together(words, call, tmp_path, whole):
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"prompt": c, "answer": c}) + "\n" for c in "abcdefghij"))
    words = [str(whole) if w == "MODEL" else w for w in words]
    code, _, err = call("train", "grpo", *words, "--quiet", "--no-plot", "--evaluate", "0")
    assert code == 2 and len(err.splitlines()) == 1
    assert __import__("re").search(WORDS[tuple("MODEL" if w == str(whole) else w for w in words)], err), err


def test_a_reference_of_another_family_and_a_critic_that_no_language_model_has(tmp_path):
    pretrained.save(*pretrained.begin("tiny", "xyz="), tmp_path / "other")
    with pytest.raises(LogpiError, match="has other tokens than the model"):
        logpi.learn("grpo", task="copy", kl=0.1, reference=str(tmp_path / "other"))
    with pytest.raises(LogpiError, match="A language model has a critic V or none, not 'q'"):
        logpi.learn("actor_critic", task="copy", credit="q")


def test_groups_without_any_signal_where_groups_are_refilled():
    with pytest.raises(LogpiError, match="In 8 rounds of 2 prompts every group got equal rewards"):
        next(logpi.learn("dapo", task="addition", starts=2, group=2))


def test_what_is_not_installed(monkeypatch, tmp_path):
    monkeypatch.setattr(language, "find_spec", lambda name: None)
    with pytest.raises(LogpiError, match=r'Language models need transformers: pip install "logpi\[lm\]"'):
        logpi.learn("grpo", task="copy")
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(LogpiError, match="Parquet needs pyarrow"):
        data.read(tmp_path / "x.parquet")


def test_a_task_with_nothing_to_hold_out():
    class One:
        letters, limit = "a", 2

        def example(self, chance: random.Random) -> dict[str, str]:
            return {"prompt": "a", "answer": "a"}

        def reward(self, prompts, completions, **columns):
            return [0.0] * len(prompts)

    splits = [draw(One(), "train", 0, 0)] if not __import__("logpi.lm.tasks.task").lm.tasks.task.held_out("a") else []
    with pytest.raises(LogpiError, match="has no example for its (test|train) among 10,000"):
        draw(One(), "test" if splits else "train", 0, 0)


def test_a_chat_for_a_tokenizer_without_a_template():
    policy = Tokens(*pretrained.begin("tiny", Copy.letters))
    with pytest.raises(LogpiError, match="the tokenizer has no chat template"):
        policy.encode([{"role": "user", "content": "a"}])


def test_a_run_of_the_other_world_is_no_beginning(tmp_path, whole):
    text = next(logpi.learn("grpo", task="copy", starts=2, group=2, steps=10)).save(tmp_path / "text")
    control = next(logpi.learn("ppo", "CartPole-v1", envs=2, length=8, steps=16))
    with pytest.raises(LogpiError, match="holds a language model, not a policy for environments"):
        checkpoint.inherit(control.parts, text)
    other = next(logpi.learn("grpo", task="addition", starts=2, group=2, steps=10))
    with pytest.raises(LogpiError, match="has other tokens than this run's"):
        checkpoint.inherit(other.parts, text)


def test_a_tokenizer_that_saves_what_no_checkpoint_keeps(monkeypatch, tmp_path):
    policy = Tokens(*pretrained.begin("tiny", Copy.letters))
    real = policy.tokenizer.save_pretrained
    more = lambda folder: (real(folder), (__import__("pathlib").Path(folder) / "code.py").write_text("x"))
    monkeypatch.setattr(policy.tokenizer, "save_pretrained", more)
    with pytest.raises(LogpiError, match=r"saves a file that no checkpoint keeps \(code.py\)"):
        policies.files_of(policy, tmp_path)


def test_a_task_of_the_users_is_named_again(call, tmp_path):
    (tmp_path / "mine.py").write_text("from logpi.lm.tasks.texts import Copy\n\n\nclass Mine(Copy):\n    pass\n")
    assert call("train", "grpo", "--task", "mine.py:Mine", "--steps", "50", "--starts", "2", "--quiet", "--no-plot",
                "--evaluate", "0")[0] == 0  # fmt: skip
    run = str(next((tmp_path / "runs").glob("*/*/*")))
    for command in (("eval", run, "--episodes", "2"), ("resume", run, "--steps", "300", "--quiet", "--evaluate", "0")):
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
