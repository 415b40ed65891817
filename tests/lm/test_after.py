"""Behind their projection some models scale or cap their logits: log pi is that of the logits they give themselves."""

import pytest
import torch
from lm.families import family

from logpi import LogpiError
from logpi.lm.after import After
from logpi.policy.tokens import Tokens

IDS = torch.arange(7)[None]


@pytest.mark.parametrize(
    "name, after",
    [
        ("cohere", After(0.25)),
        ("gemma2", After(1.0, 2.0)),
        ("gemma3_text", After(1.0, 2.0)),
        ("granite", After(1 / 4)),
        ("llama", After()),
    ],
)
def test_log_pi_is_that_of_the_models_own_logits(name, after):
    policy = Tokens(*family(name, torch.float64), temperature=0.7)
    assert policy.head.after == after
    with torch.no_grad():
        own = (policy.model(input_ids=IDS).logits[0] / 0.7).log_softmax(-1)
        log_pi = policy.head.log_prob(policy.hidden(IDS)[0], IDS[0])
    torch.testing.assert_close(log_pi, own[IDS[0], IDS[0]].to(log_pi), rtol=0, atol=1e-12)


def test_a_name_that_the_model_does_not_use_means_nothing():
    model, tokenizer = family("llama")
    model.config.logit_scale = 3.0
    assert Tokens(model, tokenizer).head.after == After()


def test_half_precision_hides_no_scale():
    assert Tokens(*family("granite", torch.bfloat16)).head.after == After(1 / 4)


@pytest.mark.parametrize("change", ["logits", "hidden"])
def test_any_other_change_is_refused(change, monkeypatch):
    model, tokenizer = family("llama")
    real = model.forward

    def changed(**asked):
        said = real(**asked)
        said.logits = said.logits + 1
        return said

    if change == "logits":
        monkeypatch.setattr(model, "forward", changed)
    else:
        model.get_output_embeddings().register_forward_pre_hook(lambda _, given: (given[0] * 2,))
    with pytest.raises(
        LogpiError, match="LlamaForCausalLM changes its logits behind the projection, or what it projects"
    ):
        Tokens(model, tokenizer)
