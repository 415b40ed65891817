"""Environments and a policy -> Batch: segments of T steps, or whole episodes, or groups of them from one start."""

from collections import deque
from itertools import repeat
from typing import Any

import torch
from torch import Tensor, nn

from logpi import psi
from logpi.batch import Batch
from logpi.critic import seen
from logpi.device import widest
from logpi.envs.base import Environments, Resting, Step
from logpi.errors import EnvironmentFailed, LogpiError
from logpi.policy import Policy
from logpi.rollout.culprit import culprit
from logpi.rollout.steps import Steps, first_episodes, never_ends, without_broken

AHEAD = 64  # steps for which chance is drawn at once, where the length of a rollout is not known
LONGEST = 100_000  # steps after which an episode that does not end is given up
KEPT = ("obs", "steps_before", "length_before", "return_before", "discounted")  # of episodes that are under way


class Control:
    """Collects for one page. `rows` is 'segments' (with `length`), 'episodes' or 'groups' (with `group`)."""

    def __init__(
        self,
        envs: Environments,
        rows: str,
        generator: torch.Generator,
        seed: int,
        length: int = 0,
        group: int = 1,
        gamma: float = 1.0,
        fused: Any = None,
        clip_reward: bool = False,
        recompute: bool = False,
    ) -> None:
        self.fused = fused  # what may act and judge instead (fast/)
        self.clip_reward = clip_reward  # to their signs, for learning
        self.recompute = recompute  # is the critic asked again during an update?
        self.envs, self.rows, self.generator = envs, rows, generator
        self.length, self.group, self.gamma = length, group, gamma
        self.version, self.finished, self.broken = 0, 0, 0  # iterations; episodes that ended; that broke
        self.recent: deque[tuple[float, int]] = deque(maxlen=100)  # (return, length) of the last episodes
        self.obs = envs.reset(self._seeds(envs.n, torch.Generator().manual_seed(seed)))
        self.memory: Tensor | None = None  # what the policy remembers of each environment
        self.before: Tensor | None = None  # and did when the rollout began
        self.steps_before = torch.zeros(envs.n, dtype=torch.long)  # of the episode; of the game that is counted: length
        self.length_before = torch.zeros(envs.n, dtype=torch.long)
        self.return_before = torch.zeros(envs.n, dtype=torch.float64)
        self.discounted = torch.zeros(envs.n, dtype=torch.float64)  # running return, for its normaliser
        self.unseen_obs: Tensor | None = None  # what the normalisers have yet to see
        self.unseen_returns: Tensor | None = None

    @property
    def backend(self) -> str:
        return self.envs.backend

    @property
    def source(self) -> str:
        return f"{self.backend} environments"

    @property
    def note(self) -> str:
        return getattr(self.envs, "note", "")

    @property
    def failures(self) -> list[Any]:
        """What broke and was restarted since the list was last emptied."""
        return self.envs.failures

    def close(self) -> None:
        self.envs.close()

    def _seeds(self, n: int, generator: torch.Generator) -> list[int]:
        return torch.randint(2**31, (n,), generator=generator, device=generator.device).tolist()

    def __call__(self, policy: Policy, critic: nn.Module | None) -> Batch:
        if self.rows != "segments":
            starts = self._seeds(self.envs.n // self.group, self.generator) if self.rows == "groups" else None
            self.obs = self.envs.reset(None if starts is None else [s for s in starts for _ in range(self.group)])
            for kept in (self.steps_before, self.length_before, self.return_before, self.discounted):
                kept.zero_()
        elif self.fused is not None and (found := self.fused.collect(self, policy, critic)) is not None:
            self.version += 1
            return found
        steps = self._roll(policy)
        if bool(steps.broken.any()):
            self.broken += int(steps.broken.sum())
            steps = steps if self.rows == "segments" else without_broken(steps)
        batch = self._batch(policy, critic, steps)
        self.version += 1
        return batch if self.rows != "groups" else batch.map(lambda x: x.unflatten(0, (-1, self.group)))

    def _roll(self, policy: Policy) -> Steps:
        """Act until the segment is full, or until every environment has finished the episode it began; [n, T, ...]."""
        like, whole = next(policy.parameters()), self.rows != "segments"
        self.obs, parts, taken = policy.received(self.obs, like), list[Steps](), 0
        self.memory = policy.start(self.envs.n) if whole or self.memory is None else self.memory
        self.before = self.memory
        going: Tensor | None = None  # whole episodes: not ended yet, [n]
        while not parts or (going is not None and bool(going.any())):
            if taken >= LONGEST:
                raise LogpiError(never_ends(LONGEST))
            steps = min(AHEAD, LONGEST - taken) if whole else self.length
            noise = policy.head.noise((steps, self.envs.n), like, self.generator)
            found = self._fused(policy, noise, steps, going, taken)
            parts.append(found or self._act(policy, noise, steps, going, taken))
            taken += parts[-1].reward.shape[1]
            if whole:
                on = ~(parts[-1].terminated | parts[-1].truncated).any(1)
                going = on if going is None else going & on
        every = parts[0] if len(parts) == 1 else Steps(*(torch.cat(x, 1) for x in zip(*parts, strict=True)))
        return first_episodes(every) if whole else every

    def _act(self, policy: Policy, noise: Tensor | None, ahead: int, going: Tensor | None, before: int) -> Steps:
        """`ahead` steps, or fewer where whole episodes have all ended; `before` came earlier."""
        steps = list[Steps]()
        with torch.inference_mode():
            for now in noise if noise is not None else repeat(None, ahead):
                steps.append(self._once(policy, now, steps, before))
                if self.rows != "segments":
                    on = ~(steps[-1].terminated | steps[-1].truncated)
                    going = on if going is None else going & on
                    if not going.any():
                        break
                    if isinstance(self.envs, Resting) and not on.all():
                        self.envs.rest(~going.cpu().numpy())
        self.obs = self.obs.contiguous()  # as a checkpoint restores it: matrix products round by layout
        self.memory = None if self.memory is None else self.memory.clone()  # which a gradient may pass
        return Steps(*(torch.stack(x, 1) for x in zip(*steps, strict=True)))

    def _once(self, policy: Policy, noise: Tensor | None, seen: list[Steps], before: int) -> Steps:
        """One step of every environment; the next observations stand in `obs`."""
        obs = self.obs
        params, kept = policy.step(policy.normalise(obs), self.memory)
        action = policy.head.sample(params, self.generator, noise)
        x = self._step(policy.head.to_env(action), seen, params, before)
        ones = torch.ones_like(x.terminated)
        mask, broken, going = (y if x is None else x for x, y in ((x.mask, ones), (x.broken, ~ones), (x.going, ~ones)))
        self.obs = policy.received(x.obs, params)
        if kept is not None:
            over = (x.terminated | x.truncated | ~mask | broken).to(kept.device)
            self.memory = torch.where(over[:, None], 0.0, kept)
        return Steps(obs, action, params, x.reward, x.terminated, x.truncated, mask, x.final, broken, going)

    def _fused(
        self, policy: Policy, noise: Tensor | None, ahead: int, going: Tensor | None, before: int
    ) -> Steps | None:
        """The same by a fast twin, where there is one for these environments."""
        found = self.fused and self.fused.roll(self, policy, noise, ahead, going, before)
        if not found:
            return None
        self.obs, told = found
        return Steps(**told)

    def _step(self, action: Tensor, seen: list[Steps], params: Tensor, before: int) -> Step:
        """One step of the environments; where one fails on a NaN of ours, the NaN is what is told."""
        try:
            return self.envs.step(action)
        except EnvironmentFailed as failed:
            n = failed.number
            obs = torch.stack([*(x.obs[n] for x in seen), self.obs[n]])
            said = torch.stack([*(x.params[n] for x in seen), params[n]])
            raise culprit(obs, said, before, self.version + 1, n) or failed from failed

    @torch.no_grad()
    def _batch(self, policy: Policy, critic: nn.Module | None, x: Steps) -> Batch:
        reward, final = x.reward.to(x.params), policy.received(x.final, x.params)
        terminated, truncated, mask = (flag.to(x.params.device) for flag in (x.terminated, x.truncated, x.mask))
        ended, broken = (terminated | truncated) & mask, x.broken.to(mask.device)
        at_once = broken.any(1) & ~(mask & (broken.cumsum(1) == 0)).any(1)  # no action of ours stands before the break
        start = self.steps_before.to(mask.device).masked_fill(at_once, 0)
        self._count(reward, ended & ~x.going.to(ended.device), mask, broken)
        self._age(ended | broken, mask)
        reward = reward.sign() if self.clip_reward else reward
        if policy.normaliser is not None:
            self.unseen_obs = x.obs[mask]
        if policy.return_normaliser is not None:
            self.unseen_returns = self._discounted_returns(reward, ended | broken, mask)
            reward = policy.return_normaliser(reward)
        log_pi = policy.head.log_prob(x.params, x.action)
        version = torch.full(mask.shape, self.version, device=mask.device)
        ends = terminated & mask, truncated & mask | broken  # a break cuts off the action before it, which bootstraps
        seen = policy.normalise(x.obs)
        batch = Batch(seen, x.action, log_pi, x.params, reward, *ends, mask, version, start, memory=self.before)
        if critic is None:
            return batch
        normal = policy.normalise(final)
        return self._look(
            policy, critic, batch, torch.where(final.isfinite(), normal, final) if normal is not final else final
        )

    def _look(self, policy: Policy, critic: Any, b: Batch, final: Tensor) -> Batch:
        """What the critic says of every observation, and of what followed it *before any reset*."""
        cut = b.ended.clone()
        cut[:, -1] = False
        ends = torch.cat([final[:, -1], final[cut]])
        here, there = self._judge(policy, critic, b, ends, cut)
        after = {}
        for name, x in here.items():
            after[f"{name}_next"] = torch.cat([x[:, 1:], there[name][: len(b), None]], 1)
            after[f"{name}_next"][cut] = there[name][len(b) :]
        again = (lambda rows: self._look(policy, critic, rows, final)) if self.recompute else None
        return b.with_(**here, **after, look=again)

    def _judge(
        self, policy: Policy, critic: Any, b: Batch, ends: Tensor, cut: Tensor
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """What is said of the batch's observations, and of those at the ends: of each row, then of the steps in `cut`."""
        if policy.memory is not None:
            features, after = policy.sequence(b)
            last, _ = policy.memory.step(policy.trunk(ends), torch.cat([after[:, -1], after[cut]]))
            return self._asked(policy, critic, features, b.obs, b.action), self._asked(policy, critic, last, ends, None)
        fused = self.fused if self.fused is not None and self.fused.critic is not None else None
        every = ends if fused is None else torch.cat([b.obs.flatten(0, 1), ends])
        if fused is None or (value := fused.value(every)) is None:
            here = self._asked(policy, critic, policy.trunk(b.obs), b.obs, b.action)
            return here, self._asked(policy, critic, policy.trunk(ends), ends, None)
        value = seen(every, value)
        count = len(value) - len(ends)
        return {"value": value[:count].view(b.reward.shape)}, {"value": value[count:]}

    def _asked(
        self, policy: Policy, critic: Any, features: Tensor, obs: Tensor, action: Tensor | None
    ) -> dict[str, Tensor]:
        found = critic.evaluate(policy, features, obs, action, self.generator)
        return {name: seen(obs, x) for name, x in found.items()}

    def _discounted_returns(self, reward: Tensor, ended: Tensor, mask: Tensor) -> Tensor:
        """R_t = r_t + gamma R_{t-1} within each episode, across rollouts: what the return normaliser has yet to see."""
        before = torch.nn.functional.pad(~ended[:, :-1], (1, 0), value=True)
        x = torch.where(mask, reward, 0.0).to(widest(mask.device))
        decay = self.gamma * before.to(x)
        x[:, 0] += decay[:, 0] * self.discounted.to(x)
        returns = psi.backward(x.flip(-1), decay.flip(-1)).flip(-1)  # forward in time
        self.discounted = torch.where(ended[:, -1], 0.0, returns[:, -1]).cpu()
        return returns[mask]

    def settle(self, policy: Policy) -> None:
        """After the update: the normalisers move to what the rollout saw."""
        for normaliser, unseen in (
            (policy.normaliser, self.unseen_obs),
            (policy.return_normaliser, self.unseen_returns),
        ):
            if normaliser is not None and unseen is not None:
                normaliser.update(unseen)
        self.unseen_obs = self.unseen_returns = None

    def _age(self, over: Tensor, mask: Tensor) -> None:
        """Steps of the episodes that are not over yet."""
        over, mask = over.cpu(), mask.cpu()
        since = over.flip(1).cumsum(1).flip(1) == 0
        self.steps_before = torch.where(over.any(1), 0, self.steps_before) + (mask & since).sum(1)

    def _count(self, reward: Tensor, ended: Tensor, mask: Tensor, broken: Tensor) -> None:
        """Returns and lengths of the games that ended, in the order in which they did; those that broke are left out."""
        total = torch.where(mask, reward, 0.0).cpu().double().cumsum(1) + self.return_before[:, None]
        taken = mask.cpu().long().cumsum(1) + self.length_before[:, None]
        ended = ended.cpu()
        ends = (ended | broken.cpu()).nonzero()
        base, age, done = [0.0] * len(total), [0] * len(total), []
        for (row, t), so_far, steps in zip(
            ends.tolist(), total[*ends.T].tolist(), taken[*ends.T].tolist(), strict=True
        ):
            if ended[row, t]:
                done.append((t, row, so_far - base[row], steps - age[row]))
            base[row], age[row] = so_far, steps
        self.recent.extend((ret, length) for _, _, ret, length in sorted(done))
        self.finished += len(done)
        self.return_before = total[:, -1] - torch.tensor(base, dtype=torch.float64)
        self.length_before = taken[:, -1] - torch.tensor(age)

    def metrics(self) -> dict[str, float]:
        """Mean return and length of the last 100 episodes (NaN before the first ends), and how many there were."""
        n = len(self.recent)
        mean = [sum(x) / n for x in zip(*self.recent, strict=True)] if n else [float("nan")] * 2
        found = {"return": mean[0], "length": mean[1], "episodes": float(self.finished)}
        return found | {"broken_episodes": float(self.broken)} if self.broken else found

    def state(self) -> dict[str, Any]:
        """Everything but the generator and the policy; `envs` is None where an episode must be started again."""
        names = ("memory", *KEPT, "version", "finished", "broken")
        return {name: getattr(self, name) for name in names} | {"recent": list(self.recent), "envs": self.envs.state()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.version, self.finished, self.broken = state["version"], state["finished"], state.get("broken", 0)
        self.recent.extend((float(r), int(n)) for r, n in state["recent"])
        if state["envs"] is None:  # new episodes, not those that the seed began with
            self.obs = self.envs.reset(self._seeds(self.envs.n, self.generator))
            return
        self.envs.load_state(state["envs"])
        for name in KEPT:
            setattr(self, name, state.get(name, state["steps_before"]))  # of old, lengths were those of episodes
        self.memory = state.get("memory")
