"""What `logpi sft` and `logpi reward-model` share: where their data are from, what they begin with, where it goes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import torch

from logpi.device import few_kernels, heed_bf16, pick, use_threads
from logpi.errors import LogpiError
from logpi.page import Between, Count, Positive, page

HELD = 256  # examples of the test, at most, on which a fit is judged
LINES = 10  # told on the way


@page
class Fitting:
    """Of a fit to data: answers, or preferences."""

    out: Path  # a new folder, which --model and transformers read
    task: str = "addition"  # one that logpi brings along, or ./file.py:MyTask
    data: Path | None = None  # a .jsonl or .parquet file instead of a task
    level: Count | None = None  # the task's difficulty: digits, letters, numbers
    model: str = "tiny"  # tiny or small: new; else a folder, or the name of a hub model
    steps: Count = 300  # of AdamW, the rate falling linearly to a tenth
    lr: Positive = 1e-3  # learning rate; models that are not new want about 1e-5
    rows: Count = 128  # examples in each step
    seed: Annotated[int, Between(0, 2**63 - 1)] = 0  # of new weights, and of the order of examples
    lora: Annotated[int, Between(0)] = 0  # rank of an adapter, which alone is fitted, then folded in; 0: all weights
    lora_alpha: Positive | None = None  # what it says counts alpha / rank; else twice the rank
    micro: Count | None = None  # tokens through the model at once: memory only; else what some 64 MiB hold
    bf16: bool = False  # the model computes in bfloat16; weights and the loss stay float32
    device: Literal["auto", "cpu", "cuda", "mps"] = "cpu"  # where tensors live
    threads: Count | None = None  # of torch; else one for small models, and all cores for others

    where = property(lambda self: self.data.stem if self.data else self.task)
    source = property(lambda self: f"--data {self.data}" if self.data else f"--task {self.task}{self.difficulty}")
    difficulty = property(lambda self: "" if self.level is None else f" --level {self.level}")


def prepared(given: Fitting) -> Any:
    """The task or the data, once it is sure that the folder is new."""
    from logpi.lm import lora, pretrained, tasks
    from logpi.lm.data import Table
    from logpi.run.language import must_have_transformers

    must_have_transformers()
    lora.must_have_rank(given.lora, given.lora_alpha)
    pretrained.must_be_new(given.out)
    return Table(given.data) if given.data else tasks.find(given.task, given.level)


def letters_of(task: Any) -> str:
    """All that a task is written with; of data, all letters in their texts."""
    if task.letters:
        return str(task.letters)
    rows = [row for split in task.splits.values() for row in split]
    if any(not isinstance(row["prompt"], str) for row in rows):
        raise LogpiError("A new model reads texts, and these prompts are chats: give --model, a folder or a hub model.")
    return "".join(sorted({c for row in rows for x in row.values() for c in str(x)}))


def held_out(task: Any, seed: int, kind: Literal["example", "preference"]) -> tuple[list[dict[str, Any]], str]:
    """(examples of the test, what to call them): where data hold none out, they are those that were learnt from."""
    from logpi.lm.tasks import draw

    splits = getattr(task, "splits", None)
    many = HELD if splits is None else min(HELD, len(splits["test"]))
    name = "held out" if splits is None or splits["test"] is not splits["train"] else "of the same rows, none held out"
    return [draw(task, "test", seed, k, kind) for k in range(many)], name


def place(model: Any, given: Fitting) -> None:
    """Where and how it computes, and what of it moves: float32, on as many threads as its size is worth; an adapter alone."""
    use_threads(given.threads, model)
    model.to(device := pick(given.device), torch.float32)
    if given.bf16:
        few_kernels()
        heed_bf16(device)
    if given.lora:
        from logpi.lm import lora

        lora.put_in(model, given.lora, given.lora_alpha or 2 * given.lora, given.seed)
        for p in model.score.parameters() if hasattr(model, "score") else ():
            p.requires_grad_(True)  # a new line has nothing to be adapted


def keep(model: Any, tokenizer: Any, given: Fitting) -> None:
    """The new folder, an adapter made part of the model."""
    from logpi.lm import lora, pretrained

    if given.lora:
        lora.fold(model)
    pretrained.save(model, tokenizer, given.out)


def told(losses: Iterator[float], steps: int) -> tuple[float, float]:
    """(the first loss, the last), and a line for every tenth."""
    each, first, last = max(1, steps // LINES), float("nan"), float("nan")
    for k, last in enumerate(losses, 1):
        first = last if k == 1 else first
        if k == 1 or k % each == 0:
            print(f"step {k:>{len(str(steps))}}  loss {last:.4f}", flush=True)
    return first, last
