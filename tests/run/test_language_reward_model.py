"""`logpi reward-model`: preferences -> a folder that `logpi train --reward-model` takes as the reward."""

import json
import re
from pathlib import Path

import pytest

import logpi
from logpi.lm import reward_model

SHORT = ("--steps", "12", "--rows", "16")
SMALL = ("--steps", "200", "--envs", "6", "--quiet", "--no-plot", "--evaluate", "0")


@pytest.fixture
def made(call) -> str:
    code, out, err = call("reward-model", "--task", "sentiment-toy", "--out", "rm", *SHORT)
    assert code == 0, err
    return out


def test_a_tasks_preferences_make_a_reward_that_trains(call, made, tmp_path):
    assert re.search(r"loss \S+ -> \S+; accuracy 0\.\d+ on 256 pairs held out", made)
    assert made.splitlines()[-1].startswith(
        "written to rm; next: logpi train ppo --task sentiment-toy --model DIR --reward-model rm --kl 0.5 "
    )
    line = ("train", "ppo", "--task", "sentiment-toy", "--reward-model", "rm", "--kl", "0.5", *SMALL)
    code, _, err = call(*line)
    assert code == 0, err
    run = next((tmp_path / "runs").glob("*/*/*"))
    rows = [json.loads(x) for x in (run / "metrics.jsonl").read_text().splitlines()]
    assert all(abs(row["reward"]) < 50 for row in rows)
    assert f'reward_model = "{tmp_path / "rm"}"' in (run / "config.toml").read_text()
    assert call("resume", str(run), "--steps", "300")[0] == 0
    assert call("eval", str(run), "--episodes", "4")[0] == 0


def test_the_reward_of_a_run_is_what_the_model_says(call, made, tmp_path):
    record = next(logpi.learn("ppo", task="sentiment-toy", reward_model="rm", envs=4, kl=0.5))
    judge, batch = reward_model.load("rm"), record.batch
    for row in range(4):
        ours = batch.mask[row].nonzero()[:, 0]
        ids = [int(batch.obs[row, 0]), *batch.action[row, : int(ours[-1]) + 1].tolist()]
        text = record.policy.tokenizer.decode(ids, skip_special_tokens=True)
        prompt, _, said = text.partition("was ")
        assert float(batch.reward[row].sum()) == pytest.approx(judge([prompt + "was "], [said])[0], abs=1e-5)


def test_pairs_of_ones_own_from_the_folder_of_sft(call, tmp_path):
    (tmp_path / "pairs.jsonl").write_text(
        "".join(json.dumps({"prompt": f"{k}?", "chosen": "aa", "rejected": "b"}) + "\n" for k in range(60))
    )
    (tmp_path / "bad.jsonl").write_text(json.dumps({"prompt": "b?", "chosen": "aa"}) + "\n")
    code, out, err = call("reward-model", "--data", "pairs.jsonl", "--out", "rm", *SHORT, "--lr", "3e-3")
    assert code == 0 and re.search(r"accuracy 1\.000 on \d+ pairs held out", out), err
    assert "--data pairs.jsonl --max-tokens N --model DIR --reward-model rm" in out
    lines = {
        "reward-model --data bad.jsonl --out new": "The prompt 'b?' has no text rejected",
        "reward-model --task addition --out new": "Addition has no preferences: give --data",
        "reward-model --data pairs.jsonl --out rm": "rm is there already, and nothing is overwritten",
        "train ppo --task copy --reward-model ./none": "There is no folder ./none",
        "train ppo --task copy --reward-model rm --reward-weights 1 2": "There are 1 rewards and 2 weights",
        f"train ppo --task copy --reward-model rm {' '.join(SMALL)}": "The tokenizer has no tokens for",
    }
    for line, words in lines.items():
        code, _, err = call(*line.split())
        assert code == 2 and words in err and len(err.splitlines()) == 1, err
    assert not Path("new").exists()
