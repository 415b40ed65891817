"""Corrections for a sampler that is not the trainer's policy, by enumeration: every completion of a tiny vocabulary."""

import pytest
import torch
from lm.engines import Elsewhere
from torch import Tensor

import logpi
from logpi import average, objective
from logpi.batch import Batch, Rows
from logpi.lm import pretrained
from logpi.lm.correction import Correction
from logpi.lm.generate import Completions
from logpi.methods import GRPO
from logpi.now import Now, Surrogate
from logpi.policy.tokens import Tokens
from logpi.rollout.language import rows_of

WHOLE = 1e9  # a limit that cuts nothing


class Score:
    """REINFORCE, and each of its rows once."""

    def objective(self, now, b, state):
        return objective.score(now.log_pi, b.psi)

    def average(self, mask):
        return average.weights("per_episode", mask)


def policy_of(temperature: float = 1.0, bf16: bool = False) -> Tokens:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        model, tokenizer = pretrained.new("tiny", "ab=")
    if bf16:
        with torch.no_grad():
            for p in model.parameters():
                p.copy_(p.bfloat16())
    return Tokens(model.eval().double(), tokenizer, temperature)


def everything(limit: int) -> Batch:
    """All completions of up to so many tokens (0 ends one) after one prompt; their worth differs."""
    said = [[0], *([a, *rest] for a in (1, 2, 3) for rest in ([[x] for x in range(4)] if limit == 2 else [[]]))]
    length = torch.tensor([*map(len, said)])
    tokens = torch.tensor([x + [0] * (limit - len(x)) for x in said])
    reward = torch.linspace(-1, 2, len(said), dtype=torch.float64)[
        torch.randperm(len(said), generator=torch.Generator().manual_seed(0))
    ]
    ended = torch.tensor([x[-1] == 0 for x in said])
    found = rows_of(
        [[1, 3]] * len(said), Completions(tokens, torch.zeros(tokens.shape).double(), length, ended), reward, 0
    )
    return found.with_(start=None)


def log_p(policy: Tokens, b: Batch) -> Tensor:
    return Now(policy, None, b).log_pi


def gradient(total: Tensor, policy: Tokens) -> Tensor:
    return torch.cat([g.flatten() for g in torch.autograd.grad(total, [*policy.parameters()], materialize_grads=True)])


def expected(policy: Tokens, sampler: Tokens, limit: int, correction: Correction) -> tuple[Tensor, Tensor]:
    """(the expected gradient of the surrogate under what the sampler draws, the true one)."""
    b = everything(limit)
    ret = b.reward.sum(-1)
    with torch.no_grad():
        log_pi, log_mu = log_p(policy, b), log_p(sampler, b)
        mu = log_mu.sum(-1).exp()
    torch.testing.assert_close(mu.sum(), torch.ones((), dtype=torch.float64), rtol=0, atol=1e-12)
    psi = torch.where(b.mask, (len(b) * mu * ret)[:, None], 0.0)  # a row counts as often as it is drawn
    seen = b.with_(log_pi=log_pi, log_mu=log_mu, psi=psi, correction=correction.weights(log_pi, log_mu, b.mask))
    surrogate = Surrogate(Score(), policy, None, Rows(seen, torch.Generator(), pack="prompts"), {})
    return gradient(sum(surrogate(seen)), policy), gradient((log_p(policy, b).sum(-1).exp() * ret).sum(), policy)


OFF = [pytest.param({"temperature": 1.3}, id="temperature"), pytest.param({"bf16": True}, id="bfloat16")]


@pytest.mark.parametrize("off", OFF)
@pytest.mark.parametrize(("limit", "over"), [(2, "sequence"), (1, "token"), (1, "sequence")])
@pytest.mark.parametrize("kind", ["truncated", "masked"])
def test_without_a_cut_the_corrected_gradient_is_unbiased(off, limit, over, kind):
    found, true = expected(policy_of(), policy_of(**off), limit, Correction(kind, over, WHOLE))
    torch.testing.assert_close(found, true, rtol=0, atol=1e-12 * float(true.abs().max()))


@pytest.mark.parametrize("off", OFF)
def test_uncorrected_or_cut_it_is_biased_and_so_is_the_weight_of_a_token_of_several(off):
    bias = {}
    cut = 1.0001  # the two differ little in bfloat16
    for how in (Correction("none"), Correction("truncated", "token", WHOLE), Correction("truncated", "sequence", cut)):
        found, true = expected(policy_of(), policy_of(**off), 2, how)
        bias[how] = float((found - true).norm() / true.norm())
    none, token, truncated = bias.values()
    assert min(bias.values()) > 1e-5 and token < none and truncated < none


def test_weights_are_cut_or_dropped_of_a_token_or_of_its_row():
    ratio = torch.tensor([[3.0, 0.6, 1.0], [0.1, 4.0, 9.0]], dtype=torch.float64)
    mask = torch.tensor([[True, True, True], [True, True, False]])
    log_mu = torch.full((2, 3), -1.0, dtype=torch.float64)
    log_mu[1, 2] = torch.nan  # where it is not ours
    log_pi = ratio.log() - 1
    told = {
        ("truncated", "token"): [[2, 0.6, 1], [0.1, 2, 1]],
        ("masked", "token"): [[0, 0.6, 1], [0, 0, 1]],
        ("truncated", "sequence"): [[1.8] * 3, [0.4] * 3],
        ("masked", "sequence"): [[1.8] * 3, [0] * 3],
    }
    for (kind, over), wanted in told.items():
        found = Correction(kind, over, 2.0).weights(log_pi, log_mu, mask)
        torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.float64), rtol=1e-12, atol=0)
    assert Correction("none").weights(log_pi, log_mu, mask) is None
    said = Correction("truncated", "token").told(log_pi, log_mu, mask)
    ours = ratio[mask]
    assert said["sampler_gap"] == pytest.approx(float(ours.log().abs().mean()))
    assert said["sampler_gap_max"] == pytest.approx(float(ours.log().abs().max()))
    assert said["sampler_mass"] == pytest.approx(float(ours.mean()))
    assert said["sampler_ess"] == pytest.approx(float(ours.sum() ** 2 / (5 * ours.square().sum())))
    rows = torch.tensor([1.8, 0.4])
    said = Correction("truncated", "sequence").told(log_pi, log_mu, mask)
    assert said["sampler_ess"] == pytest.approx(float(rows.sum() ** 2 / (2 * rows.square().sum())))


def test_a_clip_is_of_pi_over_pi_old_and_a_correction_of_pi_old_over_mu():
    """Checklist 16: three policies, and never a clip and a correction on one factor."""
    policy, old, sampler = policy_of(1.0), policy_of(1.5), policy_of(2.5)
    b, page = everything(2), GRPO()
    with torch.no_grad():
        log_pi, log_mu = log_p(old, b), log_p(sampler, b)
    psi = torch.where(b.mask, b.reward.sum(-1, keepdim=True), 0.0)
    weight = Correction("truncated", "token", 1.2).weights(log_pi, log_mu, b.mask)
    seen = b.with_(log_pi=log_pi, log_mu=log_mu, psi=psi, correction=weight)
    rows = Rows(seen, torch.Generator(), pack="prompts")
    found = gradient(sum(Surrogate(page, policy, None, rows, {})(seen)), policy)
    rho = (log_p(policy, b) - log_pi).exp()
    inside = torch.where(psi > 0, rho < 1 + page.clip_high, rho > 1 - page.clip_low)
    both = rho.detach() * (log_pi - log_mu).exp()
    assert bool((inside != torch.where(psi > 0, both < 1.2, both > 0.8))[b.mask].any()), "or the test shows little"
    by_hand = torch.where(inside & b.mask, rho * psi * weight, 0.0) * page.average(b.mask)
    torch.testing.assert_close(found, gradient(by_hand.sum(), policy), rtol=0, atol=1e-13)
    for micro in (2, 7):
        parts = Rows(seen, torch.Generator(), micro=micro, pack="prompts")
        split = gradient(sum(Surrogate(page, policy, None, parts, {})(seen)), policy)
        torch.testing.assert_close(split, found, rtol=0, atol=1e-13)


@pytest.mark.parametrize("method", ["grpo", "ppo", "trpo"])
def test_a_run_behind_an_engine_of_other_numerics_is_corrected_and_its_first_ratio_is_one(method):
    how = {"task": "reverse-text", "level": 3, "steps": 60, "correction": "masked", "correction_over": "sequence"}
    sizes = {"starts": 4, "group": 3} if method == "grpo" else {"envs": 12}
    engine = Elsewhere(rounding=1.0, temperature=1.2)
    for record in logpi.learn(method, engine=engine, **how, **sizes):
        b = record.batch
        assert record["first_ratio_error"] < 1e-5 and record["sampler_gap"] > 1e-3
        assert record["sampler_ess"] < 1 and abs(record["sampler_mass"] - 1) < 0.2
        inside = (b.correction == 0) | ((b.correction >= 0.5) & (b.correction <= 2))
        assert bool(inside[b.mask].all()) and float((b.log_pi - b.log_mu)[b.mask].abs().max()) > 1e-3
