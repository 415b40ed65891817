"""Heads at their limits: what the environment takes, extreme parameters, masks, and spaces they refuse."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import distributions as td

from logpi import LogpiError
from logpi.policy.heads import head_for

F64 = torch.float64
BOXES = ("gaussian", "squashed", "beta")


def box():
    return spaces.Box(np.array([-2.0, 0.5]), np.array([1.0, 4.0]), dtype=np.float64)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_a_large_action_set_in_float32_sums_to_1_and_keeps_the_rare_ones():
    n = 10_000
    logits = 3 * torch.randn(n, generator=generator())
    logits[:5] = -60.0
    h = head_for(spaces.Discrete(n))
    log_p = torch.cat([h.log_prob(logits.expand(200, n), a) for a in torch.arange(n).split(200)])
    assert log_p.dtype == torch.float32
    assert float(log_p.double().exp().sum()) == pytest.approx(1.0, abs=1e-5)
    torch.testing.assert_close(log_p.double(), logits.double().log_softmax(-1), rtol=0, atol=2e-5)
    assert (log_p[:5] < -60).all()


def test_log_std_cannot_make_the_std_negative():
    for name in ("gaussian", "squashed"):
        h = head_for(box(), name).double()
        with torch.no_grad():
            h.log_std.copy_(torch.tensor([-5.0, -300.0]))
        p = h(torch.zeros(2, dtype=F64))
        assert (p.chunk(2)[1].exp() > 0).all()
        assert h.log_prob(p, h.sample(p, generator())).isfinite()
        assert not any("std" in key and not key.endswith("log_std") for key in h.state_dict())


def test_masked_actions_have_probability_and_gradient_0():
    h = head_for(spaces.Discrete(4))
    p = torch.tensor([0.5, -torch.inf, 1.0, -torch.inf], dtype=F64).requires_grad_()
    drawn = h.sample(p.expand(2000, 4), generator())
    assert set(drawn.tolist()) == {0, 2}
    for out in (h.log_prob(p, torch.tensor(2)), h.entropy(p), h.kl(p, torch.zeros(4, dtype=F64))):
        assert out.isfinite()
        (grad,) = torch.autograd.grad(out, p)
        assert grad.isfinite().all()
        assert grad[[1, 3]].tolist() == [0.0, 0.0]
    torch.testing.assert_close(h.entropy(p), td.Categorical(logits=p[[0, 2]]).entropy())


def test_discrete_actions_start_where_the_space_does():
    space = spaces.Discrete(3, start=5)
    h = head_for(space)
    assert h.to_env(torch.tensor([0, 1, 2])).tolist() == [5, 6, 7]
    assert all(space.contains(a) for a in h.to_env(h.sample(torch.zeros(50, 3), generator())).numpy())
    assert head_for(spaces.Discrete(3)).to_env(torch.tensor(2)) == 2


def test_boxes_are_clipped_or_scaled_and_the_raw_action_stays():
    space = spaces.Box(np.array([[-2.0], [0.1]]), np.array([[0.1], [4.0]]), dtype=np.float64)
    raw = torch.tensor([[-9.0, -9.0], [9.0, 9.0], [0.05, 0.3]], dtype=F64)
    kept = raw.clone()
    clipped = head_for(space).double().to_env(raw)
    assert clipped[:, :, 0].tolist() == [[-2.0, 0.1], [0.1, 4.0], [0.05, 0.3]]
    assert torch.equal(raw, kept)
    middle = [[-0.95], [2.05]]
    zero, half = torch.zeros(2, dtype=F64), torch.full((2,), 0.5, dtype=F64)
    np.testing.assert_allclose(head_for(space, "squashed").double().to_env(zero), middle)
    np.testing.assert_allclose(head_for(space, "beta").double().to_env(half), middle)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", BOXES)
def test_no_action_leaves_its_box_by_rounding(name, dtype):
    space = spaces.Box(np.array([-2.0, 0.1, -0.7], dtype), np.array([0.1, 4.0, -0.1], dtype), dtype=dtype)
    h = head_for(space, name)
    h = h.double() if dtype is np.float64 else h.float()
    for far in (0.0, 1e-9, 1 - 1e-7, 1.0) if name == "beta" else (-1e4, -9.0, 0.0, 9.0, 1e4):
        action = h.to_env(torch.full((3,), far, dtype=h.low.dtype)).numpy()
        assert action.dtype == dtype
        assert space.contains(action), (far, action)


@pytest.mark.parametrize("name", ["squashed", "beta"])
def test_an_unbounded_box_is_refused_with_the_cure(name):
    half_open = spaces.Box(np.array([-1.0, 0.0]), np.array([1.0, np.inf]), dtype=np.float64)
    for space in (half_open, spaces.Box(-np.inf, 1.0, (2,), np.float64)):
        with pytest.raises(LogpiError, match=rf"The {name} head needs a bounded Box.*--head gaussian\."):
            head_for(space, name)


def test_an_open_side_of_a_gaussians_box_does_not_clip():
    space = spaces.Box(np.array([-1.0, 0.0]), np.array([1.0, np.inf]), dtype=np.float64)
    assert head_for(space).double().to_env(torch.tensor([5.0, 1e9], dtype=F64)).tolist() == [1.0, 1e9]


def test_unknown_heads_and_spaces_are_named():
    with pytest.raises(LogpiError, match=r"'betta'.*Did you mean beta\?"):
        head_for(box(), "betta")
    with pytest.raises(LogpiError, match=r"Text.* has no policy head: there are heads for Discrete"):
        head_for(spaces.Text(3))


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_beta_stays_finite_for_extreme_network_outputs(dtype):
    h = head_for(box(), "beta").to(dtype)
    for outputs in (-200.0, -30.0, 0.0, 30.0, 1000.0):
        p = h(torch.full((4,), outputs, dtype=dtype))
        assert (p >= 1).all()
        raw = h.sample(p, generator())
        assert ((raw > 0) & (raw < 1)).all()
        assert h.log_prob(p, raw).isfinite()
        assert h.entropy(p).isfinite()
        mode = h.mode(p)
        assert ((mode >= 0) & (mode <= 1)).all(), outputs
