"""Engines that are not ours: weights of their own, another temperature, bfloat16, cut-offs; some do not do as they are told."""

import copy

import torch

from logpi.lm.engine import log_prob
from logpi.lm.generate import TRAINING, Completions, Sampling, generate

NEAR = 1e-5  # of the same weights in float32


class Elsewhere:
    """It has a copy of the weights, which a sync replaces."""

    def __init__(self, rounding=NEAR, temperature=1.0, bf16=False, how=TRAINING, deaf=False, frank=False):
        self.name, self.version, self.rounding = "elsewhere", -1, rounding
        self.temperature, self.bf16, self.how, self.deaf, self.frank = temperature, bf16, how, deaf, frank
        self.policy = None

    def sync(self, policy, version):
        heard = self.policy is None or not self.deaf
        if heard:
            self.policy = copy.deepcopy(policy).requires_grad_(False)
            self.policy.head.temperature *= self.temperature
            for p in self.policy.parameters() if self.bf16 else ():
                p.copy_(p.bfloat16())
        self.version = version if heard or not self.frank else self.version

    def generate(self, prompts, seeds, limit, ends, copies=1, how=TRAINING):
        return generate(self.policy, prompts, seeds, limit, ends, copies, self.how)

    def log_prob(self, ids):
        if self.how == TRAINING:
            return log_prob(self.policy, ids)
        logits = self.policy.head.logits(self.policy.hidden(torch.tensor([ids[:-1]]))[0])
        return self.how.log_p(logits).gather(-1, torch.tensor(ids[1:])[:, None])[:, 0]


class Cut(Elsewhere):
    """It draws from the two likeliest tokens."""

    def __init__(self, rounding=NEAR):
        super().__init__(rounding, how=Sampling(top_k=2))


class Deaf(Elsewhere):
    """It ignores every sync but the first."""

    def __init__(self):
        super().__init__(deaf=True)


class Mute(Elsewhere):
    """It loses its last row, or the log pi of all."""

    def __init__(self, loses):
        super().__init__()
        self.loses = loses

    def generate(self, *args, **more):
        said = super().generate(*args, **more)
        if self.loses == "row":
            return Completions(*(x[:-1] for x in vars(said).values()))
        return Completions(said.tokens, said.log_pi + torch.nan, said.length, said.ended)
