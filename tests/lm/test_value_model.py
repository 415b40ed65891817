"""A critic that is a second model: its own weights, the policy's tokens, and no gradient that reaches the policy."""

import copy
import json

import pytest
import torch
from lm.families import saved

import logpi
from logpi import LogpiError
from logpi.batch import Rows, credited
from logpi.lm import pretrained, reward_model
from logpi.loop import loop
from logpi.methods import GRPO, PPO, TRPO
from logpi.now import Now, Surrogate
from logpi.run.language import Text
from logpi.run.setup import assemble

HOW = {"task": "reverse-text", "level": 3, "dtype": "float64", "value_model": "copy"}
SMALL = {"envs": 12, "epochs": 1, "minibatches": 2}


def parts_of(page, **more):
    return assemble(page, Text(**HOW | {"steps": 10**6} | more), name="any")


def nudge(module, by=0.1):
    with torch.no_grad():
        for p in module.parameters():
            p.add_(by * torch.randn(p.shape, dtype=p.dtype, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("lora", [0, 2])
def test_it_begins_as_the_policys_body_and_shares_no_weight_with_it(lora):
    parts = parts_of(PPO(**SMALL), lora=lora)
    body, ids = parts.critic.network, torch.arange(8)[None]
    b = parts.collect(parts.policy, parts.critic)
    torch.testing.assert_close(body.hidden(ids), parts.policy.hidden(ids), rtol=0, atol=0)
    assert {id(p) for p in body.parameters()}.isdisjoint(map(id, parts.policy.parameters()))
    assert all(p.requires_grad for p in body.parameters()) and body.head.project.weight.shape[0] == 1
    said = Now(parts.policy, parts.critic, b).value.detach()
    torch.testing.assert_close(b.value, said, rtol=0, atol=1e-12)
    whole = body.head.project(body.hidden(b.obs))[..., 0]
    torch.testing.assert_close(b.value[b.mask], whole[b.mask].detach(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["gemma3_text", "granite"])  # a soft cap, and a scale
def test_v_is_no_logit_and_may_be_any_number(name, tmp_path):
    parts = parts_of(PPO(**SMALL), task="copy", model=str(saved(name, tmp_path / name)))
    body, ids = parts.critic.network, torch.arange(8)[None]
    with torch.no_grad():
        body.head.project.weight.mul_(1e6)
        line = body.head.project(body.hidden(ids)[0])
        assert float(line.abs().max()) > 1000
        torch.testing.assert_close(body.head.logits(body.hidden(ids)[0]), line, rtol=0, atol=0)


def test_v_does_not_move_with_the_policy_and_the_policy_does_not_with_v():
    parts = parts_of(PPO(**SMALL))
    b = parts.collect(parts.policy, parts.critic)
    before = Now(parts.policy, parts.critic, b)
    log_pi, value = before.log_pi.detach(), before.value.detach()
    nudge(parts.policy)
    now = Now(parts.policy, parts.critic, b)
    assert torch.equal(now.value, value) and not torch.equal(now.log_pi, log_pi)
    log_pi = now.log_pi.detach()
    nudge(parts.critic)
    now = Now(parts.policy, parts.critic, b)
    assert torch.equal(now.log_pi, log_pi) and not torch.equal(now.value, value)


def test_in_one_loss_their_gradients_do_not_meet():
    parts = parts_of(PPO(**SMALL))
    b = credited(parts.method, parts.collect(parts.policy, parts.critic), parts.state)
    rows, both = Rows(b, torch.Generator(), pack="prompts"), [*parts.policy.parameters(), *parts.critic.parameters()]
    moved = {id(p) for group in parts.optimizer.param_groups for p in group["params"]}
    assert moved == {*map(id, both)}
    own, found = len([*parts.policy.parameters()]), []
    for coef in (0.0, 9.0):
        page = PPO(value_coef=coef)
        surrogate = sum(Surrogate(page, parts.policy, parts.critic, rows, {})(rows.batch))
        found.append(torch.autograd.grad(surrogate, both, materialize_grads=True))
    for one, other in zip(found[0][:own], found[1][:own], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-14)
    assert [any(bool(g.any()) for g in x[own:]) for x in found] == [False, True]


@pytest.mark.parametrize(
    ("method", "page"),
    [("ppo", {"kl": 0.1}), ("ppo", {"value_coef": "own", "lora": 2, "kl": 0.1}), ("trpo", {})],
)
def test_a_run_resumes_to_the_bit(method, page, tmp_path):
    whole, sizes = [], {"envs": 12} | ({"epochs": 1, "minibatches": 2} if method == "ppo" else {"critic_epochs": 1})
    for record in logpi.learn(method, **HOW, **sizes, **page, steps=150):
        if record.iteration == 2:
            saved = record.save(tmp_path)
        critic = copy.deepcopy(record.parts.critic.state_dict())
        whole.append((record.metrics, critic, copy.deepcopy(record.policy.state_dict())))
    assert len(whole) > 3 and not torch.equal(*(x[1]["network.model.lm_head.weight"] for x in (whole[0], whole[-1])))
    for record, (metrics, critic, policy) in zip(logpi.resume(saved), whole[2:], strict=True):
        assert {k: record.metrics[k] for k in metrics} == metrics
        for one, other in ((record.parts.critic.state_dict(), critic), (record.policy.state_dict(), policy)):
            assert all(torch.equal(x, other[k]) for k, x in one.items())


def test_it_may_be_another_model_of_the_same_tokens(tmp_path):
    like = parts_of(TRPO(envs=4), model="small").policy
    pretrained.save(like.model, like.tokenizer, tmp_path / "small")
    parts = parts_of(TRPO(envs=4), value_model=str(tmp_path / "small"))
    assert (parts.policy.width, parts.critic.network.width) == (64, 128)
    assert "value_loss" in next(loop(parts)).metrics
    with pytest.raises(LogpiError, match="small has other tokens than the model: give one of its family"):
        parts_of(PPO(), task="addition", level=2, value_model=str(tmp_path / "small"))


@pytest.mark.parametrize("name", ["tiny", "llama"])
def test_it_may_be_the_body_of_a_reward_model_which_says_nothing_itself(name, tmp_path):
    where = "tiny" if name == "tiny" else str(saved(name, tmp_path / name))
    judge = reward_model.begin(where, "abcdefghijklmnopqrstuvwxyz=", 3)
    pretrained.save(judge.model, judge.tokenizer, tmp_path / "rm")
    model = {} if name == "tiny" else {"model": where}
    parts = parts_of(PPO(**SMALL), value_model=str(tmp_path / "rm"), **model)
    body = dict(parts.critic.network.body.named_parameters())
    assert all(torch.equal(p.double(), body[k]) for k, p in judge.model.base_model.named_parameters())
    assert "explained_variance" in next(loop(parts)).metrics
    with pytest.raises(LogpiError, match="rm is a reward model, which says nothing: give a causal language model"):
        pretrained.load(str(tmp_path / "rm"))


def test_a_page_without_a_critic_refuses_it():
    with pytest.raises(LogpiError, match="GRPO has no critic, so --value-model means nothing"):
        parts_of(GRPO())


def test_the_shortest_context_of_all_models_is_that_of_the_run(tmp_path):
    llama, short = (saved("llama", tmp_path / name) for name in ("llama", "short"))
    config = json.loads((short / "config.json").read_text())
    (short / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 6}))
    for page, flag in ((PPO(**SMALL), "value_model"), (PPO(**SMALL, kl=0.1), "reference")):
        how = {"task": "copy", "model": str(llama), "value_model": None, flag: str(short)}
        with (
            pytest.warns(UserWarning, match="short reads 6 tokens: that is the model's context in this run"),
            pytest.raises(LogpiError, match="The model's context is 6 tokens: --max-tokens 6 leaves none"),
        ):
            parts_of(page, **how, max_tokens=6)
        with pytest.warns(UserWarning, match="short reads 6 tokens"):
            parts = parts_of(page, **how, max_tokens=5)
        with pytest.raises(LogpiError, match="are longer than the model's context of 6"):
            parts.collect(parts.policy, parts.critic)


def test_a_run_finds_the_folders_of_its_models_from_anywhere_and_says_which_is_gone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved("llama", tmp_path / "other")
    how = {"task": "copy", "model": "other", "value_model": "other", "reference": "other", "max_tokens": 4}
    run = next(logpi.learn("ppo", **how, envs=4, kl=0.1, steps=100)).save(tmp_path / "run")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert next(logpi.resume(run)).iteration == 2
    (tmp_path / "other").rename(tmp_path / "gone")
    with pytest.raises(LogpiError, match="There is no folder .*/other: give a folder"):
        next(logpi.resume(run))
