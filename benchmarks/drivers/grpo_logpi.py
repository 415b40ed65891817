"""logpi: whole GRPO iterations on a random model, seconds of each."""

import os
import time
from pathlib import Path

from clock import asked
from parts import told
from random_model import LR, make, write

from logpi.loop import loop
from logpi.run.language import Text
from logpi.run.setup import assemble, find_method

if __name__ == "__main__":
    model = make(Path("model"), asked["size"], asked["ends"], asked.get("width"))
    data = write(Path("prompts.jsonl"), 1024)
    reward = f"{Path(__file__).parent / 'share_of_digits.py'}:share"
    page = {
        "starts": asked["prompts"],
        "group": asked.get("group", 8),
        "lr": LR,
        "epochs": 1,
        "minibatches": 1,
        "kl": asked.get("kl", 0.0),
    }
    run = Text(
        data=data, model=model, reward=(reward,), max_tokens=asked["length"], steps=10**9, seed=asked["seed"],
        threads=asked["threads"], **asked.get("logpi", {}),
    )  # fmt: skip
    parts = assemble(find_method("grpo", page), run, name="grpo")
    collect, sampled = parts.collect, []

    def timed(*given):
        began = time.perf_counter()
        batch = collect(*given)
        sampled.append(time.perf_counter() - began)
        return batch

    for name in ("settle", "metrics", "close"):
        setattr(timed, name, getattr(collect, name))
    parts.collect = timed
    records = loop(parts)
    steps = [next(records) for _ in range(asked["iterations"] + 1)]
    collect.close()
    told(
        [r.seconds for r in steps], sampled, [int(r.batch.mask.sum()) for r in steps], "logpi numba torch transformers"
    )
    os._exit(0)
