"""The gradient scatter: every cloud is centred on the exact gradient, and its ellipse is the exact covariance."""

import pytest
import torch

from logpi.lab.demos.scatter import CREDITS, Params, demo
from logpi.lab.problems import machine

CHANGED = Params(steps=3, shift=1.5, well=0.7, worn=-0.4, episodes=40)


def by_hand(params: Params, credit: str) -> tuple[torch.Tensor, torch.Tensor]:
    """(mean, covariance) of one episode's gradient: a loop over all episodes, each differentiated by itself."""
    problem = machine(params.well, params.worn, params.steps, params.shift)
    x, R, gradients = problem.every, problem.table.R, []
    _, Q = (y.detach() for y in problem.critic)
    for s, a in zip(x.state, x.action, strict=True):
        reward, t = R[s, a], torch.arange(len(s))
        V = (problem.pi[s] * Q[t, s]).sum(-1)
        to_go = reward.flip(0).cumsum(0).flip(0)
        psi = {"total": reward.sum(), "to_go": to_go, "baseline": to_go - V, "advantage": Q[t, s, a] - V}[credit]
        total = (problem.policy.log_prob(problem.obs[s], a) * psi).sum()
        gradients.append(torch.autograd.grad(total, list(problem.policy.parameters()))[0].flatten())
    g, p = torch.stack(gradients), problem.probability
    mean = p @ g
    return mean, (p[:, None] * (g - mean)).T @ (g - mean)


@pytest.mark.parametrize("params", [Params(), CHANGED], ids=["default", "changed"])
@pytest.mark.parametrize("credit", CREDITS)
def test_every_cloud_has_the_exact_gradient_and_the_exact_covariance(params: Params, credit: str) -> None:
    found = demo(params, 0)
    cloud, (mean, covariance) = found["credits"][credit], by_hand(params, credit)
    torch.testing.assert_close(torch.tensor(found["exact"], dtype=mean.dtype), mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(torch.tensor(cloud["mean"], dtype=mean.dtype), mean, rtol=1e-12, atol=1e-12)
    told = torch.tensor(cloud["covariance"], dtype=mean.dtype)
    torch.testing.assert_close(told, covariance, rtol=1e-10, atol=1e-12)
    axes = torch.tensor(cloud["ellipse"], dtype=mean.dtype)
    torch.testing.assert_close(axes.T @ axes, covariance, rtol=1e-10, atol=1e-12)
    assert cloud["variance"] == pytest.approx(float(covariance.trace()), rel=1e-10)


def test_the_cloud_shrinks_from_total_to_advantage() -> None:
    variance = [demo(Params(), 0)["credits"][credit]["variance"] for credit in CREDITS]
    assert variance == sorted(variance, reverse=True) and variance[0] > 5 * variance[-1]


def test_a_shift_of_the_rewards_moves_the_noise_of_returns_and_no_gradient() -> None:
    plain, shifted = (demo(Params(shift=shift), 0) for shift in (0.0, 4.0))
    assert shifted["exact"] == pytest.approx(plain["exact"], abs=1e-12)
    assert shifted["credits"]["total"]["variance"] > 2 * plain["credits"]["total"]["variance"]
    for credit in ("baseline", "advantage"):
        assert shifted["credits"][credit]["variance"] == pytest.approx(plain["credits"][credit]["variance"], rel=1e-9)


def test_more_episodes_go_on_where_fewer_stopped_and_the_credit_changes_none_of_them() -> None:
    few, many = demo(Params(episodes=10), 3), demo(Params(episodes=100, credit="advantage"), 3)
    assert many["episodes"]["actions"][:10] == few["episodes"]["actions"]
    assert many["credits"]["to_go"]["points"][:10] == few["credits"]["to_go"]["points"]
    points, running = (torch.tensor(many["credits"]["total"][x], dtype=torch.float64) for x in ("points", "running"))
    torch.testing.assert_close(running[-1], points.mean(0))
    gap = (points.mean(0) - torch.tensor(many["exact"], dtype=torch.float64)).norm()
    assert many["credits"]["total"]["distance"][-1] == pytest.approx(float(gap))


def test_the_dots_spread_as_the_ellipse_says() -> None:
    cloud = demo(Params(episodes=500), 1)["credits"]["to_go"]
    drawn = torch.tensor(cloud["points"], dtype=torch.float64)
    assert float(drawn.var(0).sum()) == pytest.approx(cloud["variance"], rel=0.15)
