"""The seam between learning and generation: what serves another policy than the one just trained is caught."""

import pytest
import torch
from lm.engines import NEAR, Cut, Deaf, Elsewhere, Mute
from lm.little import little, prompts_of

import logpi
from logpi import LogpiError
from logpi.lm.engine import Own, Probed, log_prob
from logpi.lm.generate import Sampling, generate
from logpi.now import Now
from logpi.rollout.language import rows_of
from logpi.run.language import Text, engine_of

SMALL = {"task": "reverse-text", "level": 3, "steps": 110, "starts": 4, "group": 3, "warmup": 10}


def moved(policy, by: float = 0.05):
    with torch.no_grad():
        for p in policy.parameters():
            p.add_(by * torch.randn(p.shape, dtype=p.dtype, generator=torch.Generator().manual_seed(1)))
    return policy


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_our_own_engine_has_the_trainers_tensors_so_its_probe_is_exact(dtype):
    policy, engine = little(dtype=dtype), Own()
    engine.sync(policy, 0)
    ids = policy.encode("abcdefgh=")
    before = engine.log_prob(ids)
    assert torch.equal(before, log_prob(policy, ids))
    moved(policy)
    assert torch.equal(engine.log_prob(ids), log_prob(policy, ids)) and not torch.equal(engine.log_prob(ids), before)
    probed = Probed(engine, ids)
    probed.sync(policy, 1)
    assert probed.deviation == 0.0 and probed.version == 1


def test_the_probe_asks_for_log_pi_of_every_token_of_a_text():
    policy = little(temperature=0.7)
    ids = policy.encode("hgfe=")
    said = (policy.model(input_ids=torch.tensor([ids])).logits[0] / 0.7).log_softmax(-1)
    wanted = said[:-1].gather(-1, torch.tensor(ids[1:])[:, None])[:, 0]
    torch.testing.assert_close(log_prob(policy, ids), wanted, rtol=0, atol=1e-12)


def test_an_engine_that_ignores_syncs_is_caught_at_the_first_that_matters():
    found = []
    with pytest.raises(
        LogpiError, match="elsewhere does not serve the policy just trained, version 1: .* it serves stale weights"
    ):
        found.extend(logpi.learn("grpo", engine=Deaf(), **SMALL))
    assert len(found) == 1, "the first iteration is drawn with the weights that it should be"


def test_an_engine_that_admits_to_be_behind_is_refused_before_its_tokens_are_used():
    policy, engine = little(), Elsewhere(rounding=100.0, deaf=True, frank=True)
    probed, prompts = Probed(engine, [1, 2, 3]), prompts_of(policy, "abc=")
    how = (prompts, torch.arange(2), 4, policy.ends, 2)
    probed.sync(policy, 4)
    assert len(probed.generate(*how).tokens) == 2
    probed.sync(policy, 5)
    with pytest.raises(
        LogpiError, match="drew with version 4 of the weights, and the policy is version 5: it may lie 0 behind"
    ):
        probed.generate(*how)


@pytest.mark.parametrize("engine", [Cut(), Elsewhere(temperature=1.1), Elsewhere(bf16=True)])
def test_another_temperature_a_cut_off_and_coarse_weights_show_in_the_probe(engine):
    policy = little()
    probed = Probed(engine, policy.encode("abcdefgh="))
    with pytest.raises(
        LogpiError, match="log pi of the probe is off by .* more than its rounding of 1e-05; give it the trainer's"
    ):
        probed.sync(policy, 0)
    engine.rounding = torch.inf
    Probed(engine, policy.encode("abcdefgh=")).sync(policy, 0)


def test_a_cut_off_takes_the_kept_mass_out_of_every_ratio_and_the_whole_distribution_takes_nothing():
    """Checklist 13: training draws from all of pi, so the ratio is 1; a sampler with top-k has ratios of the mass it keeps."""
    policy = little(3)
    prompts = prompts_of(policy, "abc=") * 6
    for how, kept in ((Sampling(), False), (Sampling(top_k=2), True)):
        said = generate(policy, prompts, torch.arange(6), 5, policy.ends, how=how)
        b = rows_of(prompts, said, torch.zeros(6, dtype=torch.float64), 0)
        with torch.no_grad():
            ratio = (Now(policy, None, b).log_pi - b.log_pi)[b.mask].exp()
            p = policy.head.logits(policy.features(b)).softmax(-1)
        mass = p.topk(2).values.sum(-1) if kept else torch.ones(len(p), dtype=torch.float64)
        torch.testing.assert_close(ratio, mass, rtol=0, atol=1e-12)
    assert float(ratio.mean()) < 0.7


def test_an_engine_with_the_same_weights_trains_as_ours_does_and_every_token_has_the_version_that_drew_it():
    how = SMALL | {"dtype": "float64"}
    for own, other in zip(logpi.learn("grpo", **how), logpi.learn("grpo", engine=Elsewhere(), **how), strict=True):
        b = other.batch
        torch.testing.assert_close(b.action, own.batch.action)
        torch.testing.assert_close(b.correction, torch.ones_like(b.correction), rtol=0, atol=1e-12)
        torch.testing.assert_close(b.log_mu, own.batch.log_pi, rtol=0, atol=1e-12)
        assert own.batch.log_mu is None and own.batch.correction is None, (
            "ours is the sampler of pi_old: nothing is weighed"
        )
        assert other["sampler_gap_max"] < 1e-12 and other["probe_deviation"] < 1e-12
        assert other["sampler_ess"] == pytest.approx(1, abs=1e-12) == other["sampler_mass"]
        for x in (own.batch, b):
            age = other.iteration - 1 - x.version[x.mask]
            assert age.unique(return_counts=True)[0].tolist() == [0], "synchronous: no token is older than its policy"
        for p, q in zip(own.policy.parameters(), other.policy.parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=0, atol=1e-9)


@pytest.mark.parametrize("loses", ["row", "log pi"])
def test_what_is_not_one_completion_for_each_row_is_refused(loses):
    with pytest.raises(LogpiError, match="The engine elsewhere returned 1[12] completions for 12 rows"):
        next(logpi.learn("grpo", engine=Mute(loses), **SMALL))


@pytest.mark.parametrize("what", ["sync", "log_prob", "generate"])
def test_what_an_engine_raises_is_told_with_its_name(what, monkeypatch):
    engine = Elsewhere()
    monkeypatch.setattr(engine, what, lambda *_: {}["server"])
    with pytest.raises(
        LogpiError, match=f"The engine elsewhere raised KeyError .'server'. in {what}: mend it, or leave"
    ):
        next(logpi.learn("grpo", engine=engine, **SMALL))


def test_what_is_no_engine_is_refused():
    with pytest.raises(LogpiError, match="engines:Mute cannot be made: its __init__ raised TypeError .*loses"):
        engine_of(Text(engine="lm.engines:Mute"), None)
    with pytest.raises(LogpiError, match="object is not an engine: it has no name"):
        next(logpi.learn("grpo", engine=object(), **SMALL))
    with pytest.raises(LogpiError, match="correction_limit is 0.5"):
        next(logpi.learn("grpo", correction_limit=0.5, **SMALL))


def test_a_run_with_an_engine_of_yours_needs_it_again_and_goes_on_to_the_bit(tmp_path):
    whole = []
    for record in logpi.learn("rloo", engine=Elsewhere(), **SMALL):
        if record.iteration == 1:
            saved = record.save(tmp_path)
        whole.append(record.metrics)
    with pytest.raises(LogpiError, match="This run used an engine of yours .custom.: pass it again"):
        next(logpi.resume(saved))
    for record, metrics in zip(logpi.resume(saved, engine=Elsewhere(NEAR)), whole[1:], strict=True):
        assert {k: record.metrics[k] for k in metrics} == metrics
