"""What a language run cannot do is said in one sentence, before anything is written."""

import json
import random
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from run.test_language_runs import SMALL, run_of
from safetensors.torch import load_file, save_file

import logpi
from logpi import LogpiError
from logpi.lm import pretrained
from logpi.lm.tasks import draw, find
from logpi.lm.tasks.task import held_out
from logpi.policy.tokens import Tokens
from logpi.run import language
from logpi.run.checkpoint import choose
from logpi.run.policies import files_of, take_weights

LETTERS = find("copy").letters
GRPO = ("train", "grpo", *SMALL, "--steps", "30", "--starts", "2", "--group", "2")


def saved(folder, letters: str = LETTERS):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pretrained.save(*pretrained.new("tiny", letters), folder)
    return folder


@pytest.fixture
def model(tmp_path):
    return saved(tmp_path / "model")


@pytest.fixture
def refused(call, tmp_path):
    def ask(*line: str) -> str:
        code, _, err = call(*line)
        assert code == 2 and err.count("\n") == 1, err
        assert not (tmp_path / "runs").exists(), "nothing is written"
        return err

    return ask


def edit(file, **changes) -> None:
    found = json.loads(file.read_text())
    file.write_text(json.dumps({k: v for k, v in (found | changes).items() if v is not ...}))


def no_weights(model):
    (model / "model.safetensors").unlink()


def pickled(model):
    (model / "model.safetensors").rename(model / "pytorch_model.bin")


def torn(model):
    data = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(data[: len(data) // 2])


def lacking(model):
    tensors = load_file(model / "model.safetensors")
    tensors.pop("transformer.h.1.attn.c_attn.weight")
    save_file(tensors, model / "model.safetensors", {"format": "pt"})


def no_config(model):
    (model / "config.json").unlink()


def broken_config(model):
    (model / "config.json").write_text("{")


def list_config(model):
    (model / "config.json").write_text("[]")


def unknown_kind(model):
    edit(model / "config.json", model_type="no-such-model")


def words_for_numbers(model):
    edit(model / "config.json", n_embd="wide")


def no_tokenizer(model):
    (model / "tokenizer.json").unlink()
    (model / "tokenizer_config.json").unlink()


def larger_tokenizer(model):
    spare = saved(model.parent / "spare", LETTERS + "0123456789")
    shutil.copy(spare / "tokenizer.json", model)


def no_end(model):
    edit(model / "tokenizer_config.json", eos_token=...)


BROKEN = {
    no_weights: "has no weights as safetensors (none): save it with safetensors.",
    pickled: "(only pytorch_model.bin, and a pickle can run code): save it with safetensors.",
    torn: "cannot be loaded: ",
    lacking: "has no weights for transformer.h.1.attn.c_attn.weight, which would be random: save the model whole.",
    no_config: "is no model: it has no config.json.",
    broken_config: "config.json is not JSON (",
    list_config: "cannot be loaded: ",
    unknown_kind: "cannot be loaded: ",
    words_for_numbers: "cannot be loaded: ",
    no_tokenizer: "model has no tokenizer: save it beside the model.",
    larger_tokenizer: "has 38 tokens, its model 28: they are of two different models.",
    no_end: "has no end token: set eos_token in its tokenizer_config.json.",
}


@pytest.mark.parametrize("harm", BROKEN, ids=lambda f: f.__name__)
def test_models_that_are_broken(refused, model, harm):
    harm(model)
    assert BROKEN[harm] in refused(*GRPO, "--model", str(model))


def test_settings_that_cannot_be(refused, model, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    other = saved(tmp_path / "other", "xyz=")
    for line, words in (
        (("--level", "0"), "level is 0: allowed is a whole number 1 or more"),
        (
            ("--model", "nobody/no-such-model"),
            "There is no folder nobody/no-such-model, and the hub has no such model or cannot be reached: give another.",
        ),
        (
            ("--model", "./nowhere"),
            "There is no folder ./nowhere: give a folder, or the name of a hub model.",
        ),
        (("--max-tokens", "512"), "The model's context is 512 tokens: --max-tokens 512 leaves none for a prompt."),
        (("--kl", "0.1", "--reference", str(other)), "has other tokens than the model: give one of its family."),
        (("--reference", str(model)), "GRPO has no KL to a reference policy"),
        (("--dtype", "float64", "--bf16"), "--bf16 computes with float32 parameters, and --dtype is float64"),
        (("--kl", "0.1", "--reference", "copy"), "There is no folder copy: give a folder, or the name of a hub model."),
        (("--task", "cpoy"), "There is no task 'cpoy'. Did you mean copy?"),
    ):
        assert words in refused(*GRPO, *line)
    assert "A language model has a critic V or none, not 'q': --credit td, nstep or gae." in refused(
        "train", "actor_critic", *SMALL, "--credit", "q"
    )
    monkeypatch.setattr(language, "find_spec", lambda _: None)
    assert 'Language models need transformers: pip install "logpi[lm]"' in refused(*GRPO)


def test_data_that_cannot_be(refused, model, tmp_path):
    rows = [{"prompt": f"{a}{b}=", "answer": a} for a in LETTERS[:10] for b in LETTERS[:10]]
    (tmp_path / "good.jsonl").write_text("".join(json.dumps(x) + "\n" for x in rows))
    few = [x for x in rows if not held_out(x["prompt"])][:3]
    (tmp_path / "few.jsonl").write_text("".join(json.dumps(x) + "\n" for x in few))
    for name, odd in (("long", f"{LETTERS[0] * 500}="), ("strange", "a7=")):
        (tmp_path / f"{name}.jsonl").write_text(
            "".join(json.dumps(x) + "\n" for x in [*rows, {"prompt": odd, "answer": ""}])
        )
    base = ("train", "grpo", "--data")
    for file, more, words in (
        ("good.jsonl", (), "How long may an answer be? Data do not say: give --max-tokens."),
        ("good.jsonl", ("--max-tokens", "3"), "Data need a model that reads them: give --model"),
        (
            "long.jsonl",
            ("--max-tokens", "12"),
            "Row 101 of long.jsonl has a prompt of 501 tokens, which with an answer",
        ),
        ("strange.jsonl", ("--max-tokens", "3"), "Row 101 of strange.jsonl: The tokenizer has no tokens for 'a7='"),
        ("few.jsonl", (), "few.jsonl has 3 rows, none held out for the test, as one in ten is: give more."),
        ("none.jsonl", (), "There is no file none.jsonl: --data takes a .jsonl or a .parquet file."),
    ):
        model_too = ("--model", str(model)) if "How long" in words or "Row" in words else ()
        assert words in refused(*base, file, *more, *model_too)


def test_parquet_without_its_library(refused, tmp_path, monkeypatch):
    (tmp_path / "a.parquet").write_text("")
    for name in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    assert 'Parquet needs pyarrow: pip install "logpi[tasks]"' in refused("train", "grpo", "--data", "a.parquet")


def test_prompts_that_are_longer_than_the_context_end_the_run(call, tmp_path):
    (tmp_path / "long.py").write_text(
        "class Long:\n    letters, limit = 'ab=', 4\n"
        "    def example(self, chance):\n        return {'prompt': ''.join(chance.choice('ab') for _ in range(600))}\n"
        "    def reward(self, prompts, completions, **_):\n        return [0.0 for _ in prompts]\n"
    )
    code, _, err = call("train", "grpo", "--task", "./long.py:Long", "--quiet", "--evaluate", "0", "--no-plot")
    assert (
        code == 2
        and "A prompt of 600 tokens and an answer of up to 4 are longer than the model's context of 512" in err
    )


def test_a_chat_for_a_tokenizer_without_a_template():
    policy = Tokens(*pretrained.new("tiny", "ab="))
    with pytest.raises(LogpiError, match="The prompt is a chat, and the tokenizer has no chat template"):
        policy.encode([{"role": "user", "content": "a"}])


def test_a_number_is_no_prompt():
    with pytest.raises(LogpiError, match="5 is no prompt: give a text, or a list of messages with role and content"):
        Tokens(*pretrained.new("tiny", "ab=")).encode(5)


def test_a_task_whose_only_prompt_is_held_out():
    class One:
        letters, limit = "a=", 2

        def example(self, chance: random.Random) -> dict:
            return {"prompt": "a="}

    with pytest.raises(LogpiError, match="has no example for its train among 10,000"):
        draw(One(), "train", 0, 0)


def test_groups_that_never_have_a_signal_are_told():
    class Flat(type(find("copy"))):
        def reward(self, prompts, completions, answer, **_):
            return [0.5] * len(completions)

    record = logpi.learn("dapo", task="copy", level=2, starts=2, group=2)
    record.gi_frame.f_locals["parts"].collect.rewards.task = Flat(2)
    with pytest.raises(LogpiError, match="In 8 rounds of 2 prompts every group got equal rewards"):
        next(record)


def test_checkpoints_that_do_not_fit(call, tmp_path, model):
    assert call(*GRPO)[0] == 0
    folder, _ = choose(run_of(tmp_path))
    other = Tokens(*pretrained.new("tiny", "xyz="))
    with pytest.raises(LogpiError, match="has other tokens than this run's: give one of its own family"):
        take_weights(other, folder)
    code, _, err = call("train", "ppo", "--env", "CartPole-v1", "--steps", "64", "--init", str(run_of(tmp_path)))
    assert code == 2 and "logpi:" in err
    with pytest.raises(LogpiError, match="holds a language model, not a policy for environments"):
        take_weights(torch.nn.Linear(1, 1), folder)
    other.tokenizer.save_pretrained = lambda where: Path(where, "strange.txt").touch()
    with pytest.raises(LogpiError, match=r"saves a file that no checkpoint keeps .strange.txt.: use another"):
        files_of(other, tmp_path)
