"""The MLP's initialisation, the Normaliser's statistics, and the policy that stands on both."""

import math

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from logpi.errors import LogpiError
from logpi.policy import build_policy
from logpi.policy.encoder import MANY, Flat
from logpi.policy.networks import Normaliser, mlp, orthogonal, trunk

F64 = torch.float64
OBS, ACTIONS = spaces.Box(-np.inf, np.inf, (5,)), spaces.Discrete(3)


def randn(*shape, seed=0, dtype=F64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64).to(dtype)


def linears(net):
    return [m for m in net.modules() if isinstance(m, nn.Linear)]


@pytest.mark.parametrize(("inputs", "outputs"), [(5, 5), (3, 8), (8, 3)])
@pytest.mark.parametrize("gain", [math.sqrt(2), 0.01, 1.0])
def test_orthogonal_weights_have_every_singular_value_at_the_gain(inputs, outputs, gain):
    layer = orthogonal(nn.Linear(inputs, outputs), gain)
    torch.testing.assert_close(torch.linalg.svdvals(layer.weight), torch.full((min(inputs, outputs),), gain))
    assert (layer.bias == 0).all()


def test_an_mlp_is_linear_tanh_with_gains_sqrt_2_and_its_own_last_one():
    net = mlp(4, 2, (16, 8), gain=0.01)
    assert [type(m) for m in net] == [nn.Linear, nn.Tanh, nn.Linear, nn.Tanh, nn.Linear]
    assert [(m.in_features, m.out_features) for m in linears(net)] == [(4, 16), (16, 8), (8, 2)]
    for layer, gain in zip(linears(net), (math.sqrt(2), math.sqrt(2), 0.01), strict=True):
        torch.testing.assert_close(float(torch.linalg.svdvals(layer.weight)[0].detach()), gain, rtol=1e-5, atol=0)
    assert net(torch.zeros(7, 3, 4)).shape == (7, 3, 2)


def test_without_hidden_layers_it_is_linear():
    assert [type(m) for m in mlp(4, 2, ())] == [nn.Linear]
    assert len(trunk(4, ())) == 0
    assert torch.equal(trunk(4, ())(torch.ones(2, 4)), torch.ones(2, 4))


def test_a_trunk_is_the_hidden_part():
    assert [type(m) for m in trunk(4, (16, 8))] == [nn.Linear, nn.Tanh] * 2
    assert trunk(4, (16, 8))(torch.zeros(3, 4)).shape == (3, 8)


@pytest.mark.parametrize("sizes", [[60], [1] * 60, [1, 20, 39], [0, 30, 0, 30]])
def test_the_normaliser_in_any_portions_has_the_statistics_of_the_whole(sizes):
    x = 1e3 + 5 * randn(60, 3)  # a mean far from 0: a sum of squares would lose digits
    n = Normaliser((3,))
    for part in x.split(sizes):
        n.update(part)
    torch.testing.assert_close(n.mean, x.mean(0), rtol=1e-13, atol=0)
    torch.testing.assert_close(n.var, x.var(0, correction=0), rtol=1e-10, atol=0)
    assert n.count == 60


def test_normalised_data_has_mean_0_and_std_1():
    x = 40 + 3 * randn(500, 2)
    n = Normaliser((2,))
    n.update(x)
    torch.testing.assert_close(n(x).mean(0), torch.zeros(2, dtype=F64), atol=1e-8, rtol=0)
    torch.testing.assert_close(n(x).std(0, correction=0), torch.ones(2, dtype=F64), atol=1e-6, rtol=0)


def test_looking_never_changes_the_statistics_and_later_data_does():
    n = Normaliser((2,))
    n.update(randn(50, 2))
    before = {k: v.clone() for k, v in n.state_dict().items()}
    n(100 * randn(50, 2, seed=1))
    assert all(torch.equal(v, before[k]) for k, v in n.state_dict().items())
    n.update(100 * randn(50, 2, seed=1))
    assert not any(torch.equal(v, before[k]) for k, v in n.state_dict().items())


def test_a_fresh_normaliser_leaves_things_as_they_are():
    x = randn(9, 2)
    torch.testing.assert_close(Normaliser((2,))(x), x, rtol=1e-7, atol=0)


def test_it_clips_to_its_limit():
    n = Normaliser((1,), limit=2.5)
    n.update(randn(100, 1))
    assert n(torch.tensor([[1e9], [-1e9], [torch.inf]], dtype=F64)).flatten().tolist() == [2.5, -2.5, 2.5]


def test_uncentred_it_divides_and_keeps_the_sign_of_rewards():
    n, x = Normaliser((), centred=False), 7 + 2 * randn(300)
    n.update(x)
    torch.testing.assert_close(n(x), x / x.std(correction=0), rtol=1e-6, atol=0)
    assert (n(x) > 0).all() == (x > 0).all()


@pytest.mark.parametrize("x", [torch.full((1, 2), 3.0, dtype=F64), torch.full((50, 2), 3.0, dtype=F64)])
def test_one_sample_or_a_constant_gives_0_and_not_nan(x):
    n = Normaliser((2,))
    n.update(x)
    assert (n(x) == 0).all()
    assert n(x + 1).isfinite().all()


def test_the_float_type_of_the_input_is_kept_and_the_statistics_are_float64():
    n = Normaliser((2,))
    n.update(randn(50, 2, dtype=torch.float32))
    assert n.mean.dtype == n.var.dtype == F64
    for dtype in (torch.float32, F64):
        assert n(randn(3, 2, dtype=dtype)).dtype == dtype


def test_statistics_travel_in_the_state_dict():
    n, other = Normaliser((2,)), Normaliser((2,))
    n.update(randn(50, 2))
    other.load_state_dict(n.state_dict())
    x = randn(5, 2, seed=1)
    assert torch.equal(n(x), other(x))
    assert not list(n.parameters())


def test_the_default_policy_is_the_fields_and_starts_almost_uniform():
    policy = build_policy(OBS, ACTIONS)
    assert [(m.in_features, m.out_features) for m in linears(policy)] == [(5, 64), (64, 64), (64, 3)]
    spread = policy(randn(100, 5, dtype=torch.float32)).softmax(-1) - 1 / 3
    assert spread.abs().max() < 0.02
    assert policy.normaliser is None


@pytest.mark.parametrize("head", ["gaussian", "squashed", "beta"])
@pytest.mark.parametrize("shared", [False, True])
def test_a_policy_for_a_box_draws_actions_that_it_can_weigh(head, shared):
    space = spaces.Box(np.float32([-2, 0]), np.float32([1, 5]))
    policy = build_policy(OBS, space, head=head, shared=shared).place("cpu", F64)
    obs = randn(4, 6, 5)
    action, log_pi = policy.sample(obs, torch.Generator().manual_seed(0))
    assert torch.equal(policy.log_prob(obs, action), log_pi)
    assert log_pi.dtype == F64
    assert policy.entropy(obs, action).shape == log_pi.shape == (4, 6)
    assert (len(list(policy.trunk.parameters())) > 0) == shared


def test_the_users_network_is_used():
    made = []

    def build(inputs, outputs):
        made.append((inputs, outputs))
        return nn.Linear(inputs, outputs)

    policy = build_policy(OBS, ACTIONS, network=build)
    assert made == [(5, 3)]
    assert isinstance(policy.network, nn.Linear)


def test_act_normalises_takes_the_mode_and_gives_numpy_for_numpy():
    space = spaces.Discrete(3, start=2)
    policy = build_policy(OBS, space, normalise_obs=True).place("cpu", F64)
    policy.normaliser.update(50 + 9 * randn(100, 5))
    raw = 50 + 9 * randn(20, 5, seed=1)
    mode = policy(policy.normaliser(raw)).argmax(-1) + 2
    out = policy.act(raw.numpy())
    assert isinstance(out, np.ndarray)
    assert out.tolist() == mode.tolist()
    assert torch.equal(policy.act(raw), mode)
    assert policy.act(raw[0].numpy()) == mode[0]  # one observation, no batch
    assert all(space.contains(a) for a in out)
    assert not torch.equal(policy(raw).argmax(-1) + 2, mode)  # raw observations would choose otherwise


def test_act_samples_with_the_generator_given():
    policy = build_policy(OBS, ACTIONS)
    obs, before = np.zeros((200, 5), np.float32), torch.random.get_rng_state()
    first, again, other = (
        policy.act(obs, deterministic=False, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2)
    )
    assert (first == again).all()
    assert (first != other).any()
    assert set(first.tolist()) == {0, 1, 2}
    assert torch.equal(torch.random.get_rng_state(), before)


def test_float64_observations_and_integers_are_taken_by_a_float32_policy():
    policy = build_policy(OBS, ACTIONS)
    assert policy.act(np.zeros(5)) == policy.act(np.zeros(5, np.int64)) == policy.act(np.zeros(5, np.float32))


def test_place_keeps_statistics_in_float64():
    policy = build_policy(OBS, spaces.Box(-1, 1, (2,)), normalise_obs=True, normalise_reward=True).place(
        "cpu", torch.float32
    )
    assert {p.dtype for p in policy.parameters()} == {torch.float32}
    assert policy.normaliser.mean.dtype == policy.return_normaliser.var.dtype == F64
    policy.place("cpu", F64)
    assert {p.dtype for p in policy.parameters()} == {F64}
    assert policy.head.low.dtype == F64


def test_a_network_of_pictures_too_large_for_them_is_refused():
    seen = spaces.Box(0, 255, (20, 20, 3), np.uint8)
    with pytest.raises(LogpiError, match=r"The nature network needs pictures of 36 pixels a side, not .*: use small"):
        build_policy(seen, ACTIONS, pictures="nature")
    assert build_policy(seen, ACTIONS).act(seen.sample()[None]).shape == (1,)


def test_many_pictures_at_once_are_flattened_as_few_are_gradients_included(monkeypatch):
    torch.manual_seed(0)
    layer, shape = Flat(3 * 4 * 5, 7), (MANY, 3, 4, 5)
    x = torch.randn(shape).contiguous(memory_format=torch.channels_last).requires_grad_()
    assert torch.equal(layer(x[: MANY - 1]), nn.functional.linear(x[: MANY - 1].flatten(1), layer.weight, layer.bias))
    inputs, pull = [x, *layer.parameters()], torch.randn(MANY, 7)
    found = [layer(x), *torch.autograd.grad(layer(x), inputs, pull)]
    assert type(layer(x).grad_fn.next_functions[0][0]).__name__ == "ConvolutionBackward0", "by oneDNN's kernel"
    monkeypatch.setattr("logpi.policy.encoder.MANY", MANY + 1)
    for one, other in zip(found, [layer(x), *torch.autograd.grad(layer(x), inputs, pull)], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    assert torch.equal(
        layer.double()(x.double()), nn.functional.linear(x.double().flatten(1), layer.weight, layer.bias)
    )
