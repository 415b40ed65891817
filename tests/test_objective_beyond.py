"""Sequence ratio, clipped weight, sampler-trainer corrections: against their definitions, one row at a time."""

import torch

from logpi import average, objective

D = torch.float64


def rows(seed=0):
    g = torch.Generator().manual_seed(seed)
    old, log_pi, psi = (-torch.rand(4, 6, dtype=D, generator=g) for _ in range(3))
    mask = torch.arange(6) < torch.tensor([6, 3, 1, 4])[:, None]
    return log_pi.requires_grad_(), old, psi + 0.5, mask


def test_sequence_clip_is_the_mean_over_rows_of_the_clipped_sequence_ratio():
    log_pi, old, psi, mask = rows()
    psi = psi[:, :1].expand(4, 6)
    per_action = objective.sequence_clip(log_pi, old, psi, mask, 0.05, 0.1)
    by_hand = []
    for i in range(4):
        n = int(mask[i].sum())
        s = (log_pi[i, :n] - old[i, :n]).mean().exp()
        by_hand.append(torch.minimum(s * psi[i, 0], s.clamp(0.95, 1.1) * psi[i, 0]))
    assert torch.allclose(average.per_sequence(per_action, mask), torch.stack(by_hand).mean(), atol=1e-14)


def test_sequence_clip_has_the_gradient_of_the_per_sequence_score_at_theta_old():
    log_pi, _, psi, mask = rows()
    psi = psi[:, :1].expand(4, 6)
    at_old = objective.sequence_clip(log_pi, log_pi.detach(), psi, mask, 0.2, 0.2)
    (found,) = torch.autograd.grad(average.per_sequence(at_old, mask), log_pi)
    (score,) = torch.autograd.grad(average.per_sequence(objective.score(log_pi, psi), mask), log_pi)
    assert torch.allclose(found, score, atol=1e-14)


def test_sequence_clip_ignores_masked_slots():
    log_pi, old, psi, mask = rows()
    poisoned = torch.where(mask, old, torch.nan)
    whole = objective.sequence_clip(log_pi, old, psi, mask, 0.2, 0.2)
    assert torch.equal(objective.sequence_clip(log_pi, poisoned, psi, mask, 0.2, 0.2)[mask], whole[mask])


def test_clipped_weight_never_switches_an_action_off():
    log_pi, old, psi, _ = rows()
    far = old - 3.0  # every ratio far above the range
    (weighted,) = torch.autograd.grad(objective.clipped_weight(log_pi, far, psi, 0.2, 0.3).sum(), log_pi)
    assert torch.allclose(weighted, 1.3 * psi)
    (clipped,) = torch.autograd.grad(objective.clip(log_pi, far, psi.abs(), 0.2, 0.3).sum(), log_pi)
    assert (clipped == 0).all()


def test_corrections_bound_or_drop_and_carry_no_gradient():
    trainer = torch.tensor([0.0, 0.0, 0.0], dtype=D, requires_grad=True)
    sampler = torch.tensor([0.0, -2.0, 2.0], dtype=D)
    truncated = objective.truncated_correction(trainer, sampler, 2.0)
    masked = objective.masked_correction(trainer, sampler, 2.0)
    assert torch.allclose(truncated, torch.tensor([1.0, 2.0, -2.0], dtype=D).where(sampler != 2, sampler.neg().exp()))
    assert torch.equal(masked, torch.tensor([1.0, 0.0, 0.0], dtype=D))
    assert not truncated.requires_grad and not masked.requires_grad
