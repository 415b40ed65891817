"""Three bugs that train without a complaint, found by asking for the expected gradient: a loss of your own, checked."""

import torch

from logpi import exact


def grpo_like(log_pi, log_ref, reward, mask, *, trained=None, length=None, kl=0.1):
    """Leave-one-out credit, one sum over each row, and the k2 estimate of the KL to a reference. To be minimised."""
    ret = reward.sum(-1)
    credit = ret - (ret.sum() - ret) / (len(ret) - 1)
    trained = mask if trained is None else trained
    rows = torch.where(trained, log_pi * credit[:, None], 0.0).sum(-1)
    rows = rows if length is None else rows / length
    return -rows.mean() + kl * torch.where(mask, (log_pi - log_ref) ** 2 / 2, 0.0).sum(-1).mean()


def end_token_masked(log_pi, log_ref, reward, mask, action):
    return grpo_like(log_pi, log_ref, reward, mask, trained=mask & (action != 0), kl=0.0)


def divided_by_the_wrong_length(log_pi, log_ref, reward, mask):
    return grpo_like(log_pi, log_ref, reward, mask, length=mask.sum(-1), kl=0.0)


def kl_without_gradient(log_pi, log_ref, reward, mask):
    with torch.no_grad():
        kl = torch.where(mask, (log_pi - log_ref) ** 2 / 2, 0.0).sum(-1).mean()
    return grpo_like(log_pi, log_ref, reward, mask, kl=0.0) + 0.1 * kl


exact.check(grpo_like, "sequences", kl=0.1, per_action=True)  # nothing to say: the gradient is right to 1e-10
for loss, kl in ((end_token_masked, 0.0), (divided_by_the_wrong_length, 0.0), (kl_without_gradient, 0.1)):
    try:
        exact.check(loss, "sequences", kl=kl, per_action=True)
    except AssertionError as wrong:
        print(wrong, end="\n\n")
