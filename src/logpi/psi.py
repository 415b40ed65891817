"""Psi: how much of what followed is credited to each action.

The policy gradient is  grad J = E[ sum_t Psi_t grad log pi(a_t|s_t) ]; the choices of Psi differ in
bias and variance only (Schulman et al. 2016, "High-dimensional continuous control using generalized
advantage estimation", section 2).

Every function is a pure function of tensors. Time is the last axis, leading axes are free, r_t follows
a_t, `value_next` is V of the observation before any reset. `terminated` cuts the bootstrap and the
recursion, `truncated` the recursion only. What comes back is raw: to centre or to standardise is a call
of its own that stands visibly on the page.
"""

import torch
from torch import Tensor

from logpi.fast.switch import twinned


@twinned(torch.float32, torch.float64)
def backward(x: Tensor, decay: Tensor) -> Tensor:
    """y_t = x_t + decay_t y_{t+1}: the one recursion of this file."""
    x = x.to(decay.dtype)
    y, out = torch.zeros_like(x[..., 0]), []
    for x_t, decay_t in zip(reversed(x.unbind(-1)), reversed(decay.unbind(-1)), strict=True):
        y = torch.addcmul(x_t, decay_t, y)
        out.append(y)
    return torch.stack(out[::-1], -1)


def _decay(ended: Tensor, factor: float, like: Tensor) -> Tensor:
    """`factor` where the episode goes on, 0 where it ended, in the float type of `like`, exactly."""
    dtype = like.dtype if like.is_floating_point() else torch.get_default_dtype()
    return torch.full_like(like, factor, dtype=dtype).masked_fill(ended, 0.0)


def _episode_start(ended: Tensor) -> Tensor:
    """[..., T] -> for each step the index, within the row, of its episode's first step."""
    t = torch.arange(ended.shape[-1], device=ended.device).expand(ended.shape)
    after_end = torch.nn.functional.pad(ended[..., :-1], (1, 0))
    return torch.where(after_end, t, 0).cummax(-1).values


def total_return(reward: Tensor, ended: Tensor, gamma: float = 1.0) -> Tensor:
    """Psi_t = sum_k gamma^k r_k, the same for every action of an episode (Williams 1992).

    reward, ended [..., T] -> [..., T], in units of reward. Unbiased for the discounted J. An action is
    also credited with what came before it, which on average adds nothing to the gradient and, as a rule, adds variance.
    """
    return reward_to_go(reward, ended, gamma).gather(-1, _episode_start(ended))


def reward_to_go(reward: Tensor, ended: Tensor, gamma: float = 1.0) -> Tensor:
    """Psi_t = G_t = sum_{k>=t} gamma^{k-t} r_k: no credit for what came before (causality).

    reward, ended [..., T] -> [..., T]. For gamma < 1 the unbiased weight is gamma^t G_t
    (`discount_from_start`); without that factor it is what everyone runs.
    """
    return backward(reward, _decay(ended, gamma, reward))


def discount_from_start(psi: Tensor, ended: Tensor, gamma: float, start: Tensor | None = None) -> Tensor:
    """gamma^t Psi_t, t counted from the first step of the episode (Sutton & Barto 2018, section 13.3).

    psi, ended [..., T]; start [...]: steps that the row's first episode had taken before the row (0 when None). The factor
    makes a Psi_t whose mean given (s_t, a_t) is Q or A unbiased for the discounted J; `total_return` holds it already.
    """
    first = _episode_start(ended)
    age = torch.arange(psi.shape[-1], device=psi.device) - first
    if start is not None:
        age = age + torch.where(first == 0, start[..., None], 0)
    return psi * _decay(torch.zeros_like(ended), gamma, psi).pow(age)


def td(reward: Tensor, value: Tensor, value_next: Tensor, terminated: Tensor, gamma: float) -> Tensor:
    """delta_t = r_t + gamma V(s_{t+1}) - V(s_t), V(s_{t+1}) = 0 after termination, not after truncation.

    All [..., T]. Unbiased as an advantage only if V is the true value.
    """
    return reward + gamma * torch.where(terminated, 0.0, value_next) - value


def n_step(
    reward: Tensor, value: Tensor, value_next: Tensor, terminated: Tensor, truncated: Tensor, gamma: float, n: int
) -> Tensor:
    """A_t = sum_{k<n} gamma^k r_{t+k} + gamma^n V(s_{t+n}) - V(s_t): n rewards, then the critic.

    All [..., T]. Fewer rewards where the episode ends or the row stops first; n = 1 is `td`, n >= T the
    (bootstrapped) return minus V. Computed as the sum of n discounted TD errors.
    """
    delta = td(reward, value, value_next, terminated, gamma)
    decay = _decay(terminated | truncated, gamma, reward)
    out, weight = delta.clone(), decay
    for k in range(1, min(n, reward.shape[-1])):
        out[..., :-k] += weight[..., : reward.shape[-1] - k] * delta[..., k:]
        weight = weight[..., : reward.shape[-1] - k] * decay[..., k:]
    return out


@twinned(torch.float32, torch.bool)
def gae(
    reward: Tensor, value: Tensor, value_next: Tensor, terminated: Tensor, truncated: Tensor, gamma: float, lam: float
) -> Tensor:
    """A_t = sum_l (gamma lam)^l delta_{t+l}: generalised advantage (Schulman et al. 2016, eq. 16).

    All [..., T]. lam = 0 is `td` (trusts the critic), lam = 1 the bootstrapped return minus V (trusts
    the rewards). `value + gae` is the TD(lam) return, the critic's target.
    """
    delta = td(reward, value, value_next, terminated, gamma)
    return backward(delta, _decay(terminated | truncated, gamma * lam, reward))


def vtrace(
    reward: Tensor,
    value: Tensor,
    value_next: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    gamma: float,
    rho: Tensor,
    lam: float = 1.0,
    rho_clip: float = 1.0,
    c_clip: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """(target, psi) of V-trace, for actions drawn by an older policy (Espeholt et al. 2018, section 4.1).

    target_t = V_t + sum_{k>=t} gamma^{k-t} (prod_{i<k} c_i) min(rho_k, rho_clip) delta_k,
    psi_t = min(rho_t, rho_clip) (r_t + gamma v_{t+1} - V_t), c = lam min(rho, c_clip), v_{t+1} the next target
    (mixed lam : 1 - lam with V). rho = pi / mu, all [..., T]. psi holds the clipped rho already, so
    its objective is `score`.
    """
    ended, clipped = terminated | truncated, rho.clamp(max=rho_clip)
    delta = clipped * td(reward, value, value_next, terminated, gamma)
    target = value + backward(delta, torch.where(ended, 0.0, gamma * lam * rho.clamp(max=c_clip)))
    more = torch.nn.functional.pad((target - value)[..., 1:], (0, 1))  # what the next target adds to V(s_{t+1})
    following = value_next + lam * torch.where(ended, 0.0, more)
    return target, clipped * td(reward, value, following, terminated, gamma)


def group_mean(ret: Tensor) -> Tensor:
    """Psi_i = R_i - mean_j R_j over a group from one start, ret [..., G] (Dr. GRPO, Liu et al. 2025).

    The mean includes R_i: the expected gradient is (G-1)/G of the true one; `leave_one_out` is unbiased.
    """
    return ret - ret.mean(-1, keepdim=True)


def leave_one_out(ret: Tensor) -> Tensor:
    """Psi_i = R_i - mean_{j != i} R_j, ret [..., G], G >= 2: an unbiased baseline (Kool et al. 2019, RLOO)."""
    n = ret.shape[-1]
    if n < 2:
        raise ValueError(f"leave_one_out needs a group of 2 or more, this one has {n}.")
    return n / (n - 1) * group_mean(ret)


def group_standardise(ret: Tensor, eps: float = 1e-6, correction: int = 0) -> Tensor:
    """Psi_i = (R_i - mean R) / (std R + eps), ret [..., G]; a group of equal rewards gives exactly 0 (GRPO).

    Dividing by the group's own std weighs easy and hard starts up, and bends the direction where a start has more than
    two rewards: a bias that `group_mean` does not have (Liu et al. 2025). correction=1 is the sample std.
    """
    equal = ret.amax(-1, keepdim=True) == ret.amin(-1, keepdim=True)
    spread = (
        torch.zeros_like(equal, dtype=ret.dtype)
        if ret.shape[-1] <= correction
        else ret.std(-1, correction=correction, keepdim=True)
    )
    return torch.where(equal, 0.0, group_mean(ret) / (spread + eps))


def overlong(length: Tensor, longest: int, cushion: int) -> Tensor:
    """The share of a penalty that a row of so many actions takes: 0 up to longest - cushion, 1 from longest on (Yu et al. 2025, DAPO)."""
    return ((length - (longest - cushion)) / cushion).clamp(0.0, 1.0)


def mean(x: Tensor, mask: Tensor) -> Tensor:
    """The batch mean over actions, a scalar: the plainest baseline; biased, since it holds the action's own return."""
    return torch.where(mask, x, 0.0).sum() / mask.sum().clamp(min=1)


def time_mean(x: Tensor, mask: Tensor) -> Tensor:
    """The mean over rows at each time step, [T]: a baseline for episodes that begin at t = 0. x, mask [..., T]."""
    x, mask = x.reshape(-1, x.shape[-1]), mask.reshape(-1, mask.shape[-1])
    return torch.where(mask, x, 0.0).sum(0) / mask.sum(0).clamp(min=1)


def others_time_mean(x: Tensor, mask: Tensor) -> Tensor:
    """At each time step the mean over the *other* rows, [..., T]; 0 where no other row lasted that long.

    Independent of the row it is applied to, so unbiased, unlike `time_mean`.
    """
    flat, ours = torch.where(mask, x, 0.0).reshape(-1, x.shape[-1]), mask.reshape(-1, mask.shape[-1]).to(x)
    return ((flat.sum(0) - flat) / (ours.sum(0) - ours).clamp(min=1)).reshape(x.shape)


def optimal_constant(score: Tensor, weighted: Tensor) -> Tensor:
    """b* = E[S.U] / E|S|^2, the constant baseline of least total variance; a scalar.

    score, weighted [N, P]: S = sum_t grad log pi_t and U = sum_t grad log pi_t G_t of N episodes.
    Biased if applied to the episodes it was computed from.
    """
    return (score * weighted).sum() / score.square().sum().clamp(min=torch.finfo(score.dtype).tiny)


def centre(psi: Tensor, mask: Tensor) -> Tensor:
    """Psi - mean Psi over the actions that were ours; masked slots give 0."""
    return torch.where(mask, psi - mean(psi, mask), 0.0)


def scale(psi: Tensor, mask: Tensor, eps: float = 1e-8) -> Tensor:
    """Psi / (std Psi + eps), population std over the actions that were ours; the mean stays."""
    return torch.where(mask, psi / (mean(centre(psi, mask).square(), mask).sqrt() + eps), 0.0)


@twinned(torch.float32, torch.bool)
def standardise(psi: Tensor, mask: Tensor, eps: float = 1e-8) -> Tensor:
    """(Psi - mean) / (std + eps) over the actions that were ours: `scale` after `centre`."""
    return scale(centre(psi, mask), mask, eps)


def standardise_sample(psi: Tensor, mask: Tensor, eps: float = 1e-8) -> Tensor:
    """The same by the sample's std, with n - 1: what stable-baselines3 and CleanRL do to each minibatch. One action gives 0."""
    centred, free = centre(psi, mask), (mask.sum() - 1).clamp(min=1)
    return centred / ((centred.square().sum() / free).sqrt() + eps)
