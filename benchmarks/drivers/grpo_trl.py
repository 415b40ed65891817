"""TRL: the same iterations with its GRPOTrainer; its bf16 flag is autocast in training."""

import os
import time
from pathlib import Path

import torch
from clock import asked
from datasets import Dataset
from parts import told
from random_model import LR, make, prompts
from share_of_digits import share
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer

torch.set_num_threads(asked["threads"])
model = make(Path("model"), asked["size"], asked["ends"])
rows = 8 * asked["prompts"]
config = GRPOConfig(
    output_dir="out", per_device_train_batch_size=rows, num_generations=8, max_completion_length=asked["length"],
    max_steps=asked["iterations"] + 1, learning_rate=LR, lr_scheduler_type="constant", beta=asked.get("kl", 0.0),
    temperature=1.0, use_cpu=True, seed=asked["seed"], report_to=[], save_strategy="no", logging_steps=1, disable_tqdm=True,
    bf16=asked.get("bf16", False), gradient_checkpointing=asked.get("checkpointing", False), loss_type="grpo", max_grad_norm=1.0,
)  # fmt: skip
ends, sampled, tokens = [], [], []


class Ends(TrainerCallback):
    def on_step_end(self, *_, **__):
        ends.append(time.perf_counter())


class Timed(GRPOTrainer):
    def _generate_and_score_completions(self, inputs):
        began = time.perf_counter()
        found = super()._generate_and_score_completions(inputs)
        sampled.append(time.perf_counter() - began)
        tokens.append(int(found["completion_mask"].sum()))
        return found


trainer = Timed(model, share, config, Dataset.from_list(prompts(1024)), callbacks=[Ends()])
began = time.perf_counter()
trainer.train()
seconds = [b - a for a, b in zip([began, *ends], ends, strict=False)]
told(seconds, sampled, tokens, "trl torch transformers accelerate")
os._exit(0)
