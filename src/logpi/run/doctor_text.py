"""What the log of a language model's run says is wrong: beside the checks of `doctor`, those that only texts need."""

from statistics import fmean

from logpi.run.cures import MORE, SMALLER, either
from logpi.run.doctor import COLLAPSED, HALF, NEAR, Finding, Log, State, last_quarter
from logpi.run.table import figure

FAILED, BROKEN = 0.01, 0.2  # of the completions: their reward is another one's word; a fifth of the signal is none
DEAD = 0.8  # of the groups: four fifths of the rollout teach nothing
CUT = 0.5  # of the completions: most answers never come to their end
LONGER, SHORTER = 2.0, 0.25  # times the length at the start
FAR, FARTHER = 0.5, 2.0  # nats a token to the reference: another way of saying it; another language
RISING = 1.1  # times the quarter before


def quarters(column: list[float]) -> list[float]:
    """The mean of the first quarter, of the last but one, and of the last."""
    size = max(1, len(column) // 4)
    return [fmean(column[:size]), fmean(column[-2 * size : -size] or column), fmean(column[-size:])]


def rewards(log: Log) -> Finding:
    name, failures, said = "rewards", log.column("reward_failures"), max(log.column("episodes"), default=0.0)
    if not failures:
        return Finding(name, "ok" if log.rows else "not measured", "the task's own" if log.rows else "no iteration yet")
    asked = said * max(
        1, sum(key.startswith("reward/") for key in log.rows[-1])
    )  # each reward, where there are several
    share = sum(failures) / max(asked, 1.0)
    seen = f"failed for {sum(failures):,.0f} of {asked:,.0f} judgements ({share:.0%})"
    if share <= FAILED:
        return Finding(name, "ok", seen)
    cure = "the warning in the run's output says why: mend the function, or give it --reward-limit, --reward-memory"
    return Finding(name, "wrong" if share > BROKEN else "look", seen, cure)


def groups(log: Log) -> Finding:
    name, silent = "groups", log.column("groups_without_signal")
    if not silent:
        return Finding(name, "not measured", "this method has none" if log.rows else "no iteration in the log")
    share = fmean(last_quarter(silent))
    seen = f"all rewards were equal in {share:.0%} of the groups of the last quarter"
    if share < DEAD:
        return Finding(name, "ok", seen)
    state: State = "wrong" if share == 1 and log.height < NEAR else "look"  # what is solved has no more to teach
    return Finding(
        name, state, seen, "another --level, a larger --group, a warm-up, or dapo, which draws others instead"
    )


def entropy(log: Log) -> Finding:
    name, column = "entropy", log.column("entropy")
    if not column:
        return Finding(name, "not measured", "none in the log")
    first, _, last = quarters(column)
    seen = f"{figure(last)} nats a token in the last quarter, {figure(column[0])} at the start"
    if last >= COLLAPSED * max(column[0], first) or log.height >= NEAR:
        return Finding(name, "ok", seen)
    cure = f"it says one thing before it is the right one: start again with {either(log, SMALLER | MORE)}"
    return Finding(name, "look" if log.height > HALF else "wrong", f"collapsed: {seen}", cure)


def length(log: Log) -> Finding:
    """A share that is cut off, and answers that grow or shrink without being worth more."""
    name, column, cut = "length", log.column("length"), log.column("truncated")
    if not column or not cut:
        return Finding(name, "not measured", "none in the log")
    (first, _, last), share = quarters(column), quarters(cut)[-1]
    seen = f"{last:.1f} tokens in the last quarter, {first:.1f} in the first; {share:.0%} were cut at the limit"
    grown, shrunk = last > LONGER * first, last < SHORTER * first
    if log.height >= NEAR or not (grown or shrunk or share > CUT):
        return Finding(name, "ok", seen)
    worse: State = "wrong" if (grown and share > CUT) or shrunk else "look"
    if shrunk:
        cure = "is a short answer paid for? a reward of 0 for it, a KL to the reference, or a lower learning rate"
        return Finding(name, worse, f"it collapses: {seen}", cure)
    cure = "a larger --max-tokens, dapo with --longest, or a reward that asks for an end"
    return Finding(name, worse, f"it explodes: {seen}" if grown else seen, cure)


def reference(log: Log) -> Finding:
    name, column = "reference", log.column("kl_ref")
    if not column:
        return Finding(name, "not measured", "this run has no reference policy" if log.rows else "no iteration yet")
    _, before, last = quarters(column)
    seen = f"KL to the reference {figure(last)} nats a token in the last quarter, at most {figure(max(column))}"
    if last <= FAR:
        return Finding(name, "ok", seen)
    cure = f"a larger --kl, or ppo with --kl-target; else {either(log, SMALLER)}; read what it says: logpi tokens"
    if last > FARTHER and last > RISING * before:
        return Finding(name, "wrong", f"it explodes: {seen}", cure)
    return Finding(name, "look", seen, cure)


CHECKS = (rewards, groups, entropy, length, reference)
