"""The same numbers as rlax, DeepMind's library, in float64.

rlax runs in a process of its own: JAX is threaded, and a pytest worker that has started it must not fork.
"""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from logpi import average, objective, psi

F64 = torch.float64
GAMMA, STEPS = 0.97, 25
CLOSE = {"rtol": 1e-11, "atol": 1e-12}
PEER = """
import json, sys
import jax
jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp, rlax
def array(x):
    return jnp.asarray(x) if isinstance(x, list) else x
for line in sys.stdin:
    name, args, settings, gradient = json.loads(line)
    def call(first, *rest):
        return getattr(rlax, name)(first, *rest, **settings)
    f = jax.grad(call) if gradient else call
    print(json.dumps(jax.tree.map(lambda x: x.tolist(), f(*map(array, args)))), flush=True)
"""


@pytest.fixture(scope="module")
def rlax():
    """rlax("name", *arguments, gradient=False, **settings) -> float64 tensors."""
    pytest.importorskip("rlax")
    command = [sys.executable, "-W", "ignore", "-c", PEER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as peer:

        def ask(name, *args, gradient=False, **settings):
            plain = [x.tolist() if isinstance(x, torch.Tensor) else x for x in args]
            peer.stdin.write(json.dumps([name, plain, settings, gradient]) + "\n")
            peer.stdin.flush()
            answer = json.loads(peer.stdout.readline())
            if isinstance(answer, list) and answer and isinstance(answer[0], list):
                return tuple(torch.tensor(x, dtype=F64) for x in answer)
            return torch.tensor(answer, dtype=F64)

        yield ask
        peer.stdin.close()


def segment(seed, truncations=True):
    """One row. rlax knows no truncation: there its discount is 0 and its reward holds the bootstrap."""
    rng = np.random.default_rng(seed)
    reward, value, value_next = (torch.from_numpy(rng.normal(size=STEPS)) for _ in range(3))
    terminated = torch.from_numpy(rng.random(STEPS) < 0.1)
    truncated = torch.from_numpy(rng.random(STEPS) < 0.1 * truncations) & ~terminated
    ended = terminated | truncated
    value_next[:-1] = torch.where(ended[:-1], value_next[:-1], value[1:])
    paid = torch.where(truncated, reward + GAMMA * value_next, reward)
    discount = torch.where(ended, 0.0, torch.full_like(reward, GAMMA))
    mine = {
        "reward": reward,
        "value": value,
        "value_next": value_next,
        "terminated": terminated,
        "truncated": truncated,
        "gamma": GAMMA,
    }
    return mine, {"v_tm1": value, "v_t": value_next, "r_t": paid, "discount_t": discount}


@pytest.mark.parametrize("lam", [1.0, 0.9, 0.0])
@pytest.mark.parametrize("rho_clip", [1.0, 2.5])
@pytest.mark.parametrize("seed", [0, 1])
def test_vtrace_targets_and_advantages(rlax, lam, rho_clip, seed):
    mine, peer = segment(seed)
    rho = torch.from_numpy(np.random.default_rng(seed + 9).normal(size=STEPS)).exp()
    settings = {"lambda_": lam, "clip_rho_threshold": rho_clip, "clip_pg_rho_threshold": rho_clip}
    errors, advantage, _ = rlax("vtrace_td_error_and_advantage", *peer.values(), rho, **settings)
    target, credit = psi.vtrace(**mine, rho=rho, lam=lam, rho_clip=rho_clip)
    torch.testing.assert_close(target, mine["value"] + errors, **CLOSE)
    torch.testing.assert_close(credit, advantage, **CLOSE)
    assert not torch.allclose(psi.vtrace(**mine, rho=rho, lam=lam, rho_clip=1.5)[1], advantage)  # the clip matters


@pytest.mark.parametrize("lam", [1.0, 0.9, 0.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_generalised_advantage_estimation(rlax, lam, seed):
    mine, peer = segment(seed)
    values = torch.cat([mine["value"], mine["value_next"][-1:]])
    expected = rlax("truncated_generalized_advantage_estimation", peer["r_t"], peer["discount_t"], lam, values)
    torch.testing.assert_close(psi.gae(**mine, lam=lam), expected, **CLOSE)


@pytest.mark.parametrize("n", [1, 2, 5, STEPS])
def test_n_step_bootstrapped_returns(rlax, n):
    mine, peer = segment(3)
    expected = rlax("n_step_bootstrapped_returns", peer["r_t"], peer["discount_t"], peer["v_t"], n)
    torch.testing.assert_close(mine["value"] + psi.n_step(**mine, n=n), expected, **CLOSE)


def test_discounted_returns(rlax):
    mine, peer = segment(4, truncations=False)
    expected = rlax("discounted_returns", mine["reward"], peer["discount_t"], 0.0 * peer["v_t"])
    torch.testing.assert_close(psi.reward_to_go(mine["reward"], mine["terminated"], GAMMA), expected, **CLOSE)


def test_lambda_returns(rlax):
    mine, peer = segment(5)
    expected = rlax("lambda_returns", peer["r_t"], peer["discount_t"], peer["v_t"], 0.8)
    torch.testing.assert_close(mine["value"] + psi.gae(**mine, lam=0.8), expected, **CLOSE)


@pytest.mark.parametrize("epsilon", [0.1, 0.3])
def test_the_clipped_surrogate_in_value_and_gradient(rlax, epsilon):
    rng = np.random.default_rng(6)
    log_rho, credit = (torch.from_numpy(rng.normal(size=200)) for _ in range(2))
    rho = (log_rho / 2).exp().requires_grad_()
    mask = torch.ones(200, dtype=torch.bool)
    loss = -average.per_action(objective.clip(rho.log(), torch.zeros_like(rho), credit, epsilon, epsilon), mask)
    (grad,) = torch.autograd.grad(loss, rho)
    args = ("clipped_surrogate_pg_loss", rho.detach(), credit, epsilon)
    torch.testing.assert_close(loss.detach(), rlax(*args), **CLOSE)
    torch.testing.assert_close(grad, rlax(*args, gradient=True), **CLOSE)


def test_the_score_function_with_weights_in_value_and_gradient(rlax):
    rng = np.random.default_rng(7)
    logits = torch.from_numpy(rng.normal(size=(30, 4))).requires_grad_()
    action, credit = torch.from_numpy(rng.integers(4, size=30)), torch.from_numpy(rng.normal(size=30))
    log_pi = logits.log_softmax(-1).gather(-1, action[:, None])[:, 0]
    loss = -average.per_action(objective.score(log_pi, credit), torch.ones(30, dtype=torch.bool))
    (grad,) = torch.autograd.grad(loss, logits)
    args = ("policy_gradient_loss", logits.detach(), action, credit, torch.ones(30, dtype=F64))
    torch.testing.assert_close(loss.detach(), rlax(*args), **CLOSE)
    torch.testing.assert_close(grad, torch.stack(rlax(*args, gradient=True)), **CLOSE)
