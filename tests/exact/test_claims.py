"""The claims of psi, objective, average and kl ("unbiased for ..."): their very words, each with a proof by enumeration.

A claim in a docstring whose words no proof names is a failure, and so is a proof of words that no docstring says.
"""

import inspect
import re

import pytest
import test_appendix as proofs
import torch
from test_appendix import near, normal
from torch.autograd import grad

from logpi import average, kl, objective, psi
from logpi.envs.tabular import Table
from logpi.exact import Choice, Estimator, figures, find, from_table, mdp, moments, sequences, surrogate_of
from logpi.exact.batches import Draws
from logpi.exact.expectation import gradients
from logpi.exact.problems import changed
from logpi.loop import credited
from logpi.methods import PPO

F64, G = torch.float64, 0.9
CLAIM = re.compile(r"bias|gradient|\bgrad [JK]|variance|\(G-1\)|first order|independent of|never neg|\bright\b|\bzero\b", re.I)  # fmt: skip
CLAIMS = []  # (module, function or "" for the module itself, words, what proves that they are right)
PER = ("per_episode", "per_action", "per_sequence", "per_budget")


def says(module, name, *words):
    def note(proof):
        CLAIMS.extend((module, name, x, proof) for x in words)
        return proof

    return note


def expected(page, problem="five-states", n=2):
    where = find(problem)
    return where, moments(where, surrogate_of(page), page.rows, n, symmetric=True)


def told(problem="five-states", n=2, beta=0.0, **factors):
    where, found = expected(Estimator(Choice(**{"gamma": find(problem).gamma} | factors)), problem, n)
    return figures(found, where.directions(beta)[0])


def bias(problem="five-states", n=2, beta=0.0, **factors):
    return told(problem, n, beta, **factors)["relative_bias"]


def variance(problem="five-states", **factors):
    return told(problem, 1, **factors)["variance"]


def page_of(credit):
    return type("Page", (Estimator,), {"psi": lambda self, b, state: (credit(b), None)})(Choice())


def bias_of(credit):
    where, found = expected(page_of(credit), n=1)
    return figures(found, where.directions()[0])["relative_bias"]


@says(psi, "", "The policy gradient is grad J = E[ sum_t Psi_t grad log pi(a_t|s_t) ]; the choices of Psi differ in bias and variance only")  # fmt: skip
def the_theorem():
    for gamma in (1.0, G):
        where = changed(find("five-states"), gamma=gamma)
        every = [told(where, 1, psi=x) for x in ("total", "to_go", "q", "advantage", "td", "gae")]
        assert all(x["relative_bias"] < 1e-10 for x in every) and len({round(x["variance"], 6) for x in every}) >= 5
    where = changed(find("five-states"), critic_error=0.5)
    biases = [bias(where, 1, psi="gae", lam=lam) for lam in (0.0, 0.5, 0.9, 1.0)]
    assert biases == sorted(biases, reverse=True) and biases[0] > 0.05 and biases[-1] < 1e-10


@says(psi, "total_return", "Unbiased for the discounted J")
@says(psi, "total_return", "what came before it, which on average adds nothing to the gradient and, as a rule, adds variance")  # fmt: skip
def what_came_before():
    past = lambda b: psi.total_return(b.reward, b.ended) - psi.reward_to_go(b.reward, b.ended)
    assert near(expected(page_of(past))[1].mean, 0.0)
    assert bias(psi="total") < 1e-10 and bias_of(lambda b: psi.total_return(b.reward, b.ended, 0.5)) > 0.1
    for where in ("five-states", changed(find("five-states"), hidden=(4,))):
        assert variance(where, psi="total") > 1.1 * variance(where)
    P, R = torch.zeros(3, 2, 3, dtype=F64), torch.tensor([[-1.0, -1.0], [1.0, 1.0], [0.0, 0.0]], dtype=F64)
    P[0, :, 1], P[1:, :, 2] = 1.0, 1.0
    paid_back = from_table(Table(P, R, torch.eye(3, dtype=F64)[0], torch.arange(3) == 2, 2), gamma=1.0)
    assert variance(paid_back, psi="total") < 1e-30 < 0.01 < variance(paid_back)  # the exception


@says(psi, "reward_to_go", "For gamma < 1 the unbiased weight is gamma^t G_t (`discount_from_start`)")
@says(psi, "discount_from_start", "The factor makes a Psi_t whose mean given (s_t, a_t) is Q or A unbiased for the discounted J")  # fmt: skip
def gamma_t_belongs_to_a_q_or_an_advantage():
    by_hand = lambda b: G ** torch.arange(b.reward.shape[-1], dtype=F64) * psi.reward_to_go(b.reward, b.ended, G)
    assert bias_of(by_hand) < 1e-10
    for x in ("to_go", "q", "advantage", "td", "gae", "n_step", "vtrace"):
        assert bias(psi=x) < 1e-10 and bias(psi=x, from_start=False) > 0.1
    twice = lambda b: psi.discount_from_start(psi.total_return(b.reward, b.ended, G), b.ended, G, b.start)
    assert bias_of(twice) > 0.05


@says(psi, "td", "Unbiased as an advantage only if V is the true value.")
def td_is_an_advantage_of_the_true_value_alone():
    """State by state and action by action: E[delta | s, a] = A(s, a) with the true V, and nowhere with another."""
    for error in (0.0, 0.3):
        where = changed(find("five-states"), critic_error=error)
        V, Q = mdp.values(where.table, where.pi, G)
        b, s, a = where.batch(where.every), where.every.state, where.every.action
        p = torch.where(b.mask, where.probability[:, None], 0.0)
        delta = psi.td(b.reward, b.value, b.value_next, b.terminated, G)
        seen, total = (torch.zeros(6, 2, dtype=F64).index_put((s, a), x, accumulate=True) for x in (p, p * delta))
        gap = (total / seen - (Q - V[:, None]))[:5].abs().amax(-1)
        assert float(gap.max()) < 1e-13 if error == 0 else float(gap.min()) > 1e-2


@says(psi, "group_mean", "The mean includes R_i: the expected gradient is (G-1)/G of the true one; `leave_one_out` is unbiased.")  # fmt: skip
@says(psi, "leave_one_out", "an unbiased baseline")
def the_group_mean_shrinks_and_leaving_one_out_does_not():
    for where, n in (("five-states", 2), ("five-states", 3), ("sequences", 3), ("prompts", 2)):
        found = told(where, n, psi="total", baseline="group_mean")
        assert abs(found["scale"] - (n - 1) / n) < 1e-12 and abs(found["cosine"] - 1) < 1e-12
        assert bias(where, n, psi="total", baseline="group_leave_one_out") < 1e-10


@says(psi, "group_standardise", "Dividing by the group's own std weighs easy and hard starts up, and bends the direction where a start has more than two rewards: a bias that `group_mean` does not have")  # fmt: skip
def the_groups_std_weighs_and_bends():
    """Five prompts, hard to easy, one token, a reward of 0 or 1; then one prompt of three rewards."""
    logits = torch.stack([torch.zeros(5), torch.linspace(-2.5, 2.5, 5)], 1).double()
    two = sequences(2, 1, lambda m, x: float(x[0]), prompts=5, logits=logits)

    def scales(baseline):
        found = expected(Estimator(Choice(psi="total", baseline=baseline)), two, 4)[1].mean
        return (two.jacobian @ found)[:5, 1] / (two.jacobian @ two.directions()[0].gradient)[:5, 1]

    std, three = scales("group_standardised"), sequences(3, 1, lambda m, x: (0.0, 0.2, 1.0)[x[0]])
    assert near(scales("group_mean"), 0.75) and std[0] > std[1] > std[2] < std[3] < std[4]
    for where, bent in ((two, True), (find("sequences"), False), (three, True)):
        assert (told(where, 4, psi="total", baseline="group_standardised")["cosine"] < 1 - 1e-5) is bent
        assert abs(told(where, 4, psi="total", baseline="group_mean")["cosine"] - 1) < 1e-12


@says(psi, "mean", "biased, since it holds the action's own return")
@says(psi, "others_time_mean", "Independent of the row it is applied to, so unbiased, unlike `time_mean`.")
def the_batch_mean_knows_the_row_and_the_others_do_not():
    assert bias(baseline="mean") > 0.3 and abs(told("bandit", 3, baseline="mean")["scale"] - 2 / 3) < 1e-12
    assert bias(baseline="leave_one_out") < 1e-10 and bias(baseline="time") > 0.5
    x, mask = normal(3, 4), torch.arange(4) < torch.tensor([[4], [2], [3]])
    moved = x + 5 * torch.tensor([[0.0], [1.0], [0.0]])
    change, own = (f(moved, mask) - f(x, mask) for f in (psi.others_time_mean, psi.time_mean))
    assert near(change[1], 0.0) and near(change[[0, 2], :2], 2.5) and float(own[:2].min()) > 1


@says(psi, "optimal_constant", "the constant baseline of least total variance", "Biased if applied to the episodes it was computed from.")  # fmt: skip
def the_optimal_constant():
    where = find("five-states")
    ones = Draws(where.every.at(torch.arange(13)[:, None, None]), torch.ones(13))
    weight = page_of(lambda b: psi.discount_from_start(b.mask.double(), b.ended, G, b.start))
    to_go = Estimator(Choice(gamma=G))
    S, U = (
        gradients(where, surrogate_of(x), "episodes", ones) * where.probability[:, None].sqrt() for x in (weight, to_go)
    )
    best = float(psi.optimal_constant(S, U))
    less, least, more = (variance(baseline="constant", constant=best + x) for x in (-0.01, 0.0, 0.01))
    assert less - least == pytest.approx(more - least, rel=1e-6) and less > least < variance()
    assert bias(baseline="constant", constant=best) < 1e-10 and bias(baseline="optimal") > 0.5


FIRST = (
    "`score`, `ratio`, `clip` and `mirror` agree to first order at theta = theta_old, where rho = pi / pi_old is 1: "
)


@says(objective, "", FIRST + "their gradient there is Psi grad log pi.")
def they_agree_to_first_order():
    z, credit, a = normal(5, 3).requires_grad_(True), normal(5, seed=1), torch.tensor([0, 1, 2, 1, 0])
    log_pi = z.log_softmax(-1)[torch.arange(5), a]
    right = credit[:, None] * (torch.nn.functional.one_hot(a, 3) - z.detach().softmax(-1))
    forms = {objective.score: (), objective.ratio: (), objective.clip: (0.2, 0.2), objective.mirror: (0.5,)}
    for shift in (0.0, -0.5):
        old = [() if f is objective.score else (log_pi.detach() + shift,) for f in forms]
        values = [f(log_pi, *x, credit, *more) for (f, more), x in zip(forms.items(), old, strict=True)]
        slopes = [grad(x.sum(), z, retain_graph=True)[0] for x in values]
        assert all(near(x, right) for x in slopes) is (shift == 0)
    assert not any(near(x, y) for i, x in enumerate(slopes) for y in slopes[:i])  # elsewhere they differ


@says(objective, "", "log_pi_old and psi carry no gradient, and are finite in masked slots too, as the loop fills them")
def credit_comes_without_a_gradient():
    b = find("five-states").batch(find("five-states").every)
    done = credited(PPO(), b.with_(value=b.value.clone().requires_grad_(True)), {})
    assert not (done.psi.requires_grad or done.target.requires_grad or done.log_pi.requires_grad)
    assert done.psi.isfinite().all() and done.log_pi.isfinite().all() and not done.mask.all()


@says(objective, "clipped_weight", "no gradient through the bracket", "Unlike `clip`, no action's gradient is ever switched off: its weight is bounded instead.")  # fmt: skip
def no_gradient_through_the_bracket_and_none_switched_off():
    log_pi = torch.tensor([0.9, 0.5, -0.9, 0.1], dtype=F64).requires_grad_(True)
    old, credit = torch.zeros(4, dtype=F64), torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=F64)
    weighed, clipped = (
        grad(f(log_pi, old, credit, 0.2, 0.2).sum(), log_pi)[0] for f in (objective.clipped_weight, objective.clip)
    )
    assert near(weighed, log_pi.detach().exp().clamp(0.8, 1.2) * credit) and weighed.all()
    assert (clipped == 0).tolist() == [True, False, False, False]


@says(objective, "truncated_correction", "no gradient: times an objective, it corrects for a sampler of other numerics")
@says(objective, "masked_correction", "no gradient: drops actions that disagree")
def corrections_are_weights():
    trainer, sampler, f = normal(6).log_softmax(-1), normal(6, seed=1).log_softmax(-1), normal(6, seed=2)
    for correction in (objective.truncated_correction, objective.masked_correction):
        w = correction(trainer.clone().requires_grad_(True), sampler, 50.0)
        assert not w.requires_grad and near((sampler.exp() * w * f).sum(), (trainer.exp() * f).sum())
    rho = (trainer - sampler).exp()
    inside = (rho <= 1.5) & (rho >= 1 / 1.5)
    assert near(objective.masked_correction(trainer, sampler, 1.5), rho * inside) and 0 < int(inside.sum()) < 6
    assert near(objective.truncated_correction(trainer, sampler, 1.5), rho.clamp(max=1.5))


@says(average, "", "with rows of different length each choice is another gradient")
@says(average, "per_episode", "the only one that leaves REINFORCE unbiased")
@says(average, "per_budget", "a constant divisor, no bias by length")
def each_average_is_another_gradient():
    found = told(average="per_budget", budget=7.0)
    assert abs(found["scale"] - 1 / 7) < 1e-12 and abs(found["cosine"] - 1) < 1e-12
    means = [expected(Estimator(Choice(gamma=G, average=x)))[1].mean for x in PER]
    assert all(float((a - b).norm() / b.norm()) > 0.05 for i, a in enumerate(means) for b in means[:i])
    assert [bias(n=n, average=x) < 1e-10 for n in (1, 2) for x in PER] == [True, False, False, False] * 2


@says(average, "", "Weights are computed once for a whole minibatch, which makes the gradient independent of how it is split.")  # fmt: skip
def weights_of_the_whole_make_splits_equal():
    mask, x = torch.arange(5) < torch.tensor([[5], [2], [1], [4]]), normal(4, 5).requires_grad_(True)
    for kind in PER:
        w = average.weights(kind, mask, 7.0)
        (whole,) = grad(average.total(x.square(), w, mask), x)
        for parts in ((1, 3), (2, 2), (1, 1, 1, 1)):
            cuts = zip(x.square().split(parts), w.split(parts), mask.split(parts), strict=True)
            assert near(grad(sum(average.total(*cut) for cut in cuts), x)[0], whole)
    each = torch.cat([average.weights("per_action", m) for m in mask.split(2)])
    assert not near(each / 2, average.weights("per_action", mask))  # made for each part, it is another


@says(kl, "", "In the reward (no gradient through it) k1 is right: the score function then gives grad KL(pi || other).")
def the_reward_is_the_place_of_k1():
    silent, places = (
        find("sequences").without_reward(),
        ("k1_reward", "k2_reward", "k3_reward", "k1", "k2", "k3", "exact"),
    )
    for x in ("total", "to_go"):
        assert [k for k in places if bias(silent, 1, 1.0, kl=k, psi=x) < 1e-10] == ["k1_reward"]


ROWS = "| k1 | unbiased | zero: it constrains nothing | | k2 | biased | that of KL(pi || other) | | k3 | unbiased | that of"
says(kl, "", f"{ROWS} KL(other || pi), the other direction |")(proofs.test_the_estimates_on_policy)
says(kl, "", "expected gradient as a loss |")(proofs.test_the_estimates_on_policy)
for name, words in {
    "k1": "unbiased in value, noisy, can be negative; as a loss its expected gradient is zero.",
    "k2": "biased in value; on policy its expected gradient is that of KL(pi || other).",
    "k3": "Unbiased in value, never negative; on policy its expected gradient is that of KL(other || pi).",
}.items():
    says(kl, name, words)(proofs.test_the_estimates_on_policy)
live = proofs.test_live_makes_what_is_right_in_value_right_in_gradient
says(kl, "", "every estimate that is unbiased in value has the right gradient as well.")(live)
says(kl, "live", "rho = pi / pi_old with its gradient: the estimate for actions drawn from pi_old.")(live)
says(kl, "from_old", "Never negative; unbiased in value and in gradient.")(proofs.test_from_old_is_right_both_ways)


def docs(module):
    """{function, "" for the module itself: its docstring on one line}."""
    own = {n: f.__doc__ for n, f in vars(module).items() if inspect.isroutine(f) and f.__module__ == module.__name__}
    found = {"": module.__doc__} | own
    return {n: " ".join(doc.split()) for n, doc in found.items() if doc}


def untested(said, claims):
    """The claims of docstrings that stand in none of the proofs' words."""
    found = []
    for name, doc in said.items():
        covered = [(at, at + len(words)) for n, words in claims if n == name and (at := doc.find(words)) >= 0]
        claimed = [x for x in CLAIM.finditer(doc) if not any(a <= x.start() and x.end() <= b for a, b in covered)]
        found += [f"{name}: ...{doc[max(0, x.start() - 60) : x.end() + 60]}..." for x in claimed]
    return found


@pytest.mark.parametrize("proof", dict.fromkeys(x[-1] for x in CLAIMS), ids=lambda x: x.__name__)
def test_a_claim_is_true(proof):
    proof()


@pytest.mark.parametrize("module", (psi, objective, average, kl), ids=lambda x: x.__name__)
def test_no_claim_is_untested_and_every_proof_is_of_words_that_are_said(module):
    mine, said = [(name, words) for m, name, words, _ in CLAIMS if m is module], docs(module)
    assert not [x for x in mine if x[1] not in said[x[0]]], "proved, but said in other words"
    assert not untested(said, mine), "claimed, but not proved"


def test_a_new_claim_would_be_found_out():
    said = {"f": "The mean. Unbiased for J, and of the least variance.", "g": "A sum."}
    assert len(untested(said, [])) == 2 and len(untested(said, [("f", "Unbiased for J")])) == 1
    assert not untested(said, [("f", "Unbiased for J, and of the least variance")])
    assert len(untested(said, [("g", "Unbiased for J, and of the least variance")])) == 2
