"""RLHF on a CPU: demonstrations, preferences, a reward model, and PPO that is held near where it began.

From the shell: logpi sft, logpi reward-model, logpi train ppo --reward-model; logpi generate shows what is said.
"""

import tempfile
from pathlib import Path

import torch

import logpi
from logpi.lm import pretrained, reward_model, sft, tasks
from logpi.lm.answers import answers
from logpi.lm.rewards import Rewards
from logpi.policy.tokens import Tokens

torch.set_num_threads(1)
task, out = tasks.find("sentiment-toy"), Path(tempfile.mkdtemp())

policy = Tokens(*pretrained.begin("tiny", task.letters))
*_, loss = sft.fit(policy, task, seed=0, steps=200, rows=64, lr=3e-3)
pretrained.save(policy.model, policy.tokenizer, out / "sft")
print(f"demonstrations, friendly and unfriendly alike often: loss {loss:.2f} per token", flush=True)

judge = reward_model.begin(str(out / "sft"), task.letters)
*_, loss = reward_model.fit(judge, task, seed=0, steps=100, rows=64, lr=1e-3)
held = [tasks.draw(task, "test", 0, k, "preference") for k in range(256)]
pretrained.save(judge.model, judge.tokenizer, out / "rm")
print(f"preferences: accuracy {reward_model.accuracy(judge, held):.2f} on pairs it never saw", flush=True)

models = {"model": str(out / "sft"), "reward_model": str(out / "rm"), "threads": 1, "steps": 25_000}
page = {"kl": 0.5, "envs": 64, "lr": 3e-4, "value_coef": 0.02, "gamma": 1.0, "lam": 1.0, "epochs": 2, "minibatches": 2}
for record in logpi.learn("ppo", task="sentiment-toy", **models, **page):
    b = record.batch
    if record.iteration % 6 == 1:
        kl = torch.where(b.mask, b.log_pi - b.log_ref, 0.0).sum(-1).mean()  # of whole answers
        worth = answers(record.policy, Rewards(task), 256, task.limit, seed=0).rewards  # which no model saw
        truth = f"KL to the first policy {kl:.2f}, worth in truth {sum(map(sum, worth)) / 256:5.2f}"
        print(f"{record.steps:6,} tokens: reward {record['reward']:5.2f}, {truth}", flush=True)
