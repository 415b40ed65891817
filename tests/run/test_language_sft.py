"""`logpi sft`: answers of a task or of a file -> a folder that transformers and `logpi train` take."""

import json
import re

import pytest
import torch

from logpi import LogpiError
from logpi.lm import pretrained
from logpi.lm.tasks.task import held_out
from logpi.run.fitting import letters_of

SHORT = ("--steps", "20", "--rows", "16", "--lr", "1e-2")


def jsonl(file, *rows):
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def test_a_tasks_answers_make_a_folder_that_trains_on(call, tmp_path):
    code, out, err = call("sft", "--task", "copy", "--level", "2", "--out", "deep/made", *SHORT)
    assert code == 0, err
    first, last, beyond = map(float, re.search(r"token (\S+) -> (\S+); held out \(256 answers\): (\S+)", out).groups())
    assert first > 3 > last and abs(beyond - last) < 0.5
    assert out.splitlines()[0] == f"step  1  loss {first:.4f}" and len(out.splitlines()) == 13
    line = "logpi train grpo --task copy --level 2 --model deep/made"
    assert out.endswith(f"written to deep/made; next: {line}\n")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained("deep/made"), AutoTokenizer.from_pretrained("deep/made")
    assert tokenizer.decode(tokenizer("ab=", add_special_tokens=False)["input_ids"]) == "ab="
    assert model.num_parameters() < 1e6 and [x.name for x in (tmp_path / "deep").iterdir()] == ["made"]
    small = ("--steps", "40", "--starts", "2", "--group", "2", "--quiet", "--no-plot", "--evaluate", "0")
    assert call(*line.split()[1:], *small)[0] == 0


def test_the_same_seed_gives_the_same_weights(call, tmp_path):
    for out, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        assert call("sft", "--task", "copy", "--out", out, "--steps", "2", "--rows", "4", "--seed", seed)[0] == 0
    a, b, c = ((tmp_path / x / "model.safetensors").read_bytes() for x in "abc")
    assert a == b != c


@pytest.mark.parametrize("column", ["completion", "answer"])
def test_data_of_ones_own_make_their_own_letters(call, tmp_path, column):
    file = jsonl(tmp_path / "mine.jsonl", *({"prompt": f"{k}?", column: f"Ja {k}!"} for k in range(60)))
    code, out, err = call("sft", "--data", file, "--out", "made", *SHORT)
    assert code == 0, err
    assert re.search(r"held out \(\d answers\): \d", out) and f"--data {file} --max-tokens N --model made" in out
    assert {*pretrained.load("made")[1].get_vocab()} == {"<end>", *"0123456789?Ja !"}
    assert call("sft", "--data", file, "--model", "made", "--out", "more", "--steps", "1", "--rows", "2")[0] == 0
    assert torch.isfinite(pretrained.load("more")[0].lm_head.weight).all()


def test_few_rows_hold_none_out_and_it_is_said(call, tmp_path):
    kept = next(x for x in "abcdef" if not held_out(x))
    file = jsonl(tmp_path / "one.jsonl", {"prompt": kept, "completion": "b"})
    assert "of the same rows, none held out (1 answers): " in call("sft", "--data", file, "--out", "made", *SHORT)[1]


def test_what_cannot_be_is_one_sentence(call, tmp_path):
    (tmp_path / "there").mkdir()
    data = jsonl(tmp_path / "bare.jsonl", {"prompt": "b"})
    chats = jsonl(tmp_path / "chats.jsonl", {"prompt": [{"role": "user", "content": "a"}], "completion": "b"})
    assert call("sft", "--task", "copy", "--out", "made", "--steps", "1", "--rows", "1")[0] == 0
    lines = {
        "--out there": "logpi: there is there already, and nothing is overwritten: give another --out.\n",
        "--out new --data none.jsonl": "logpi: There is no file none.jsonl: --data takes a .jsonl or a .parquet file.\n",
        f"--out new --data {data}": "logpi: The prompt 'b' has no completion and no answer: to learn from, each needs one, as a text.\n",
        f"--out new --data {chats}": "logpi: A new model reads texts, and these prompts are chats: give --model, a folder or a hub model.\n",
        "--out new --model ./nowhere": "logpi: There is no folder ./nowhere: give a folder, or the name of a hub model.\n",
        "--out new --model made --task addition": "logpi: The tokenizer has no tokens for ",
        "--out new --lr -1": "logpi: --lr is -1.0: allowed is a number greater than 0. See logpi sft --help.\n",
        "": "logpi: Missing from logpi sft: --out",
    }
    for line, words in lines.items():
        code, _, err = call("sft", *line.split())
        assert code == 2 and err.startswith(words) and len(err.splitlines()) == 1, err
    assert not (tmp_path / "new").exists()


def test_a_model_that_cannot_be_saved_leaves_nothing_behind(tmp_path):
    class Full:
        def save_pretrained(self, folder):
            folder.mkdir()
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        pretrained.save(Full(), None, tmp_path / "made")
    assert not [*tmp_path.iterdir()]


def test_a_tasks_letters_are_its_own():
    class Own:
        letters = "xyz"

    assert letters_of(Own()) == "xyz"
    with pytest.raises(LogpiError, match="these prompts are chats"):
        letters_of(type("Rows", (), {"letters": "", "splits": {"train": [{"prompt": [{}]}]}})())
