"""The same losses and gradients as TRL's, from the loss of its own trainers, on the same model, tokens and Psi."""

import copy

import pytest
import torch
from lm.little import little, prompts_of

from logpi import psi
from logpi.batch import Batch, Rows
from logpi.lm.generate import generate
from logpi.methods import CISPO, DAPO, GRPO, GSPO, RLOO, DrGRPO
from logpi.now import Now, Surrogate
from logpi.rollout.language import rows_of

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # of names that TRL gives to transformers
LIMIT, PROMPT, ROWS = 7, 4, 12
CLOSE = {"rtol": 2e-5, "atol": 1e-6}
BOTH = {"epsilon": 0.2, "epsilon_high": 0.3}
# our page, and the settings that are theirs for the same formula
LOSSES = {
    "grpo": (GRPO(clip_high=0.3), {"loss_type": "grpo"} | BOTH),
    "grpo, k3": (
        GRPO(clip_high=0.3, kl=0.5),
        {"loss_type": "grpo", "beta": 0.5, "use_bias_correction_kl": False} | BOTH,
    ),
    "grpo, k3, live": (
        GRPO(clip_high=0.3, kl=0.5, kl_live=True),
        {"loss_type": "grpo", "beta": 0.5} | BOTH,  # their default
    ),
    "dr_grpo": (DrGRPO(budget=LIMIT), {"loss_type": "dr_grpo", "epsilon": 0.2}),
    "dapo": (DAPO(clip_high=0.3), {"loss_type": "dapo"} | BOTH),
    "cispo": (CISPO(clip_high=0.28), {"loss_type": "cispo", "epsilon_high": 1.28}),  # theirs is the bound itself
    "gspo": (
        GSPO(),
        {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 0.03, "epsilon_high": 0.04},
    ),
}


@pytest.fixture(scope="module")
def case():
    """(policy, a batch whose older policy and reference differ from it, with any Psi for each row)."""
    policy = little(dtype=torch.float32)
    prompts = prompts_of(policy, "abc=", "hgf=", "dde=")
    said = generate(policy, prompts, torch.arange(ROWS), LIMIT, policy.ends, copies=ROWS // 3)
    b = rows_of([p for p in prompts for _ in range(ROWS // 3)], said, torch.zeros(ROWS), 0)
    generator = torch.Generator().manual_seed(3)
    old, ref = (b.log_pi + 0.3 * torch.randn(b.mask.shape, generator=generator) for _ in range(2))
    credit = torch.randn(ROWS, 1, generator=generator).expand(b.mask.shape)
    assert len(said.length.unique()) > 3 and int(said.length.max()) == LIMIT, "rows of unequal length"
    return policy, b.with_(log_pi=old, log_ref=ref, psi=credit, start=None)


def ours(page, policy, b: Batch):
    rows = Rows(b, torch.Generator(), pack="prompts")
    loss = -sum(Surrogate(page, policy, None, rows, {})(rows.batch))
    return loss.detach(), torch.autograd.grad(loss, [*policy.parameters()])


def given(b: Batch) -> dict:
    """Their names for it: completions stand behind prompts of one length."""
    after = slice(PROMPT - 1, None)
    mask = b.mask[:, after]
    return {
        "prompt_ids": b.obs[:, :PROMPT],
        "prompt_mask": torch.ones(ROWS, PROMPT, dtype=torch.long),
        "completion_ids": b.action[:, after],
        "completion_mask": mask.long(),
        "advantages": b.psi[:, 0],
        "old_per_token_logps": b.log_pi[:, after],
        "ref_per_token_logps": b.log_ref[:, after],
        "old_logps": torch.where(mask, b.log_pi[:, after], 0.0).sum(-1),
        "num_items_in_batch": mask.sum(),
    }


def theirs(policy, b: Batch, folder, trainer: str = "GRPO", **settings):
    trl = pytest.importorskip("trl")
    from datasets import Dataset

    beta, model = settings.pop("beta", 0.0), copy.deepcopy(policy.model)  # which they patch
    sizes = {"per_device_train_batch_size": ROWS, "num_generations": ROWS, "max_completion_length": LIMIT}
    how = {"output_dir": str(folder), "use_cpu": True, "bf16": False, "report_to": [], "beta": 0.0}
    made = getattr(trl, f"{trainer}Trainer")(
        model=model,
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=getattr(trl, f"{trainer}Config")(**how, **sizes, **settings),
        train_dataset=Dataset.from_list([{"prompt": "abc="}] * ROWS),
        processing_class=policy.tokenizer,
    )
    made.beta = beta  # with one of their own they would load a reference from the hub
    loss = made._compute_loss(made.model, given(b))
    return loss.detach(), torch.autograd.grad(loss, [*model.parameters()])


def distance(one, other) -> float:
    """|g - g'| / |g'|."""
    flat = [torch.cat([x.flatten() for x in grads]) for grads in (one, other)]
    return float((flat[0] - flat[1]).norm() / flat[1].norm())


@pytest.mark.parametrize("name", LOSSES)
def test_loss_and_gradient_are_theirs(name, case, tmp_path):
    page, settings = LOSSES[name]
    loss, grads = ours(page, *case)
    expected, slopes = theirs(*case, tmp_path, **settings)
    torch.testing.assert_close(loss, expected, **CLOSE)
    assert distance(grads, slopes) < 2e-5


def test_the_gradient_of_rloo_is_theirs_where_the_ratio_is_one(case, tmp_path):
    """Theirs is the clipped ratio of whole rows, whose loss is then the mean of Psi alone; ours is the score."""
    policy, b = case
    fresh = b.with_(log_pi=Now(policy, None, b).log_pi.detach())
    loss, grads = ours(RLOO(), policy, fresh)
    expected, slopes = theirs(policy, fresh, tmp_path, trainer="RLOO")
    assert distance(grads, slopes) < 2e-5
    torch.testing.assert_close(expected, -b.psi[:, 0].mean(), **CLOSE)
    scores = torch.where(b.mask, fresh.log_pi, 0.0).sum(-1)
    torch.testing.assert_close(loss, -(b.psi[:, 0] * scores).mean(), **CLOSE)


@pytest.mark.parametrize(
    "planted",
    [DAPO(clip_high=0.3), GRPO(clip_high=0.2), GRPO(clip_high=0.3, kl=0.01), CISPO()],
    ids=["average", "clip", "kl", "objective"],
)
def test_another_average_clip_or_kl_is_not_theirs(planted, case, tmp_path):
    _, grads = ours(planted, *case)
    _, slopes = theirs(*case, tmp_path, **LOSSES["grpo"][1])
    assert distance(grads, slopes) > 1e-3


def test_where_credit_differs_on_purpose():
    """Their std is the sample's with 1e-4 beside it; ours the population's with 1e-6: a constant of one group's size."""
    ret = torch.tensor([[0.0, 1.0, 1.0, 0.0, 2.0, 3.0]], dtype=torch.float64)
    theirs_is = (ret - ret.mean()) / (ret.std() + 1e-4)
    torch.testing.assert_close(psi.group_standardise(ret, 1e-4, 1), theirs_is)
    torch.testing.assert_close(
        psi.group_standardise(ret) / theirs_is, torch.full_like(ret, (6 / 5) ** 0.5), rtol=1e-3, atol=0
    )
