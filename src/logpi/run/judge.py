"""What a fresh batch of a run tells of it: one judgement for each measure of `examine.Live`."""

import math

from logpi.loop import COARSE
from logpi.run.doctor import NEAR, RATIO, STILL, Finding, Log, State
from logpi.run.examine import Live
from logpi.run.table import figure

LEAK = 1e-3  # of the gradient or the credit: float32 sums in another order differ by 1e-5
DEAD = 0.8  # of the groups: four fifths of the rollout teach nothing
FAR, MANY, MOST = 4.0, 0.01, 0.1  # stds from the stored mean (1 is usual); shares of numbers cut at the limit
SCALE = 5.0  # times the stored std of the discounted return
AGAINST = -0.5  # a sign that is wrong makes it -1; a page that keeps its baseline in the objective stays above
NO_BATCH = "needs a fresh batch"


def fresh(log: Log, live: Live) -> Finding:
    name = "fresh batch"
    if live.why:
        return Finding(name, "not measured", live.why)
    if live.failed:
        return Finding(name, "wrong", live.failed, "mend that: training would meet it too")
    return Finding(name, "ok", f"{live.actions:,} actions of {live.checkpoint}")


def ratio(log: Log, live: Live) -> Finding:
    name, history = "first ratio", log.column("first_ratio_error")
    told = f"at most {max(history):.1e} in the log" if history else "none in the log"
    if max(history, default=0.0) > COARSE:
        return Finding(name, "wrong", f"|pi / pi_old - 1| {told}", RATIO)
    if live.first_ratio is None:
        return Finding(name, "ok" if history else "not measured", f"|pi / pi_old - 1| {told}" if history else NO_BATCH)
    seen = f"|pi / pi_old - 1| up to {live.first_ratio:.1e} before any step, {told}"
    if not live.first_ratio <= live.rounding:
        return Finding(name, "wrong", seen, RATIO)
    return Finding(name, "ok", seen)


def first_kl(log: Log, live: Live) -> Finding:
    name = "first KL"
    if live.kl is None:
        return Finding(name, "not measured", NO_BATCH)
    seen = f"KL(old || new) {live.kl:.1e} before any step"
    if not abs(live.kl) <= live.rounding:
        cure = "as for the first ratio; where that is 1, the head's kl and its log_prob disagree"
        return Finding(name, "wrong", seen, cure)
    return Finding(name, "ok", seen)


def masks(log: Log, live: Live) -> Finding:
    name = "masks"
    if live.leaks is None or live.first_ratio is None:
        return Finding(name, "not measured", NO_BATCH)
    if not live.first_ratio <= live.rounding:
        return Finding(name, "not measured", "no two gradients are alike while the first ratio is off")
    share = f"{live.masked:.0%} of this batch was masked" if live.masked else "nothing in this batch was masked"
    found = [
        f"change the {what} {percent(live.leaks[what])}" for what in ("credit", "gradient") if live.leaks[what] > LEAK
    ]
    found += ["have weight in the average"] if live.leaks["weight"] else []
    if not found:
        return Finding(name, "ok", f"garbage and more padding there change neither credit nor gradient; {share}")
    cure = "use the mask in the page: average.weights, psi.standardise, where(mask, x, 0)"
    return Finding(name, "wrong", f"garbage and more padding there {' and '.join(found)}; {share}", cure)


def percent(x: float) -> str:
    return f"by {x:.0%}" if x < math.inf else "to NaN"


def direction(log: Log, live: Live) -> Finding:
    name, near = "direction", log.height >= NEAR
    if live.gradient is None:
        return Finding(name, "not measured", NO_BATCH)
    if live.cosine is None and live.along is None:
        return Finding(name, "not measured", "no gradient, or no credit that tells one action from another")
    told = ((live.along, "agreement with its credit"), (live.cosine, "of the whole gradient with what log pi brings"))
    seen = f"{'; '.join(f'{what} {x:.2f}' for x, what in told if x is not None)} (1: wholly)"
    cosine, along = (1.0 if x is None else x for x in (live.cosine, live.along))
    if along < AGAINST:
        cure = "is a sign wrong? the objective is maximised"
        return Finding(name, "look" if near else "wrong", f"it goes against its own credit: {seen}", cure)
    if near or min(cosine, along) >= 0:
        return Finding(name, "ok", seen)
    cure = "smaller weights of entropy and KL; where there are none: is a sign wrong? the objective is maximised"
    return Finding(name, "look", f"something outweighs the credit: {seen}", cure)


def signal(log: Log, live: Live) -> Finding:
    name = "signal"
    if live.gradient is None:
        return Finding(name, "not measured", NO_BATCH)
    dead: State = "look" if log.height >= NEAR else "wrong"  # what is solved has no more to teach
    if live.equal_groups == 1:
        what = "loss is 0" if live.gradient == 0 else "credit is 0 (what is left of the loss is its bonuses)"
        cure = "harder or easier starts, a larger group, or a reward that tells one episode from another"
        return Finding(name, dead, f"the {what} because all rewards in every group are equal", cure)
    if live.reward == 0:
        cure = "a shaped reward, starts nearer to the goal, or more exploration (an entropy bonus)"
        state: State = "look" if any(log.curve) else "wrong"
        return Finding(name, state, f"every reward of {live.actions:,} actions is 0", cure)
    if live.credit == 0:
        return Finding(name, dead, "the credit of every action is 0", "look at the rewards, then at the page's psi")
    if live.gradient <= STILL:
        cure = "the policy is certain of every action: start again with a lower learning rate or an entropy bonus"
        return Finding(name, dead, f"the gradient is {live.gradient:.1e}, and the credit is not 0", cure)
    seen = f"gradient {figure(live.gradient)}, credit up to {figure(live.credit)}"
    if live.equal_groups is not None:
        seen += f"; all rewards are equal in {live.equal_groups:.0%} of the groups"
    if (live.equal_groups or 0.0) < DEAD:
        return Finding(name, "ok", seen)
    return Finding(name, "look", seen, "these teach nothing: harder or easier starts, or a larger group")


def normaliser(log: Log, live: Live) -> Finding:
    name, seen = "normaliser", []
    if live.distance is not None:
        seen.append(f"observations {figure(live.distance)} stds from the stored mean, {live.cut:.1%} of them cut")
    if live.reward_scale is not None:
        seen.append(f"returns spread {figure(live.reward_scale)} times what was stored")
    if not seen:
        return Finding(name, "not measured", NO_BATCH if live.credit is None else "no normaliser has seen anything yet")
    told, cut = "; ".join(seen), live.cut or 0.0
    cure = (
        "has the environment changed its units or its reward? then start a new run, else train on till it has followed"
    )
    if cut > MOST:
        return Finding(name, "wrong", told, cure)
    if (live.distance or 0.0) > FAR or cut > MANY or (live.reward_scale or 0.0) > SCALE:
        return Finding(name, "look", told, cure)
    return Finding(name, "ok", told)


CHECKS = (fresh, ratio, first_kl, masks, direction, signal, normaliser)
