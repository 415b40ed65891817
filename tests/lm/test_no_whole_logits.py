"""No tensor of [B, T, V] is ever made: all that torch makes from prompts to the end of an update is looked at, backwards too."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from logpi.loop import update
from logpi.methods import METHODS
from logpi.policy import tokens
from logpi.run.language import Text
from logpi.run.setup import assemble

TASK = """
class Many:
    letters, limit = "".join(map(chr, range(200, 800))), 24

    def example(self, chance):
        return {"prompt": chance.choice(self.letters)}

    def reward(self, prompts, completions, **columns):
        return [float(k % 3) for k, _ in enumerate(completions)]
"""
PAGES = {
    "grpo": {"starts": 4, "group": 4, "kl": 0.1, "entropy": 0.01, "minibatches": 1},
    "ppo": {"envs": 16, "entropy": 0.01, "minibatches": 1},
    "mdpo": {"envs": 16, "minibatches": 1},  # KL(pi || pi_old), exact over the vocabulary
}


class Sizes(TorchDispatchMode):
    """The most numbers that a tensor had which an operation made."""

    most = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **kwargs or {})
        self.most = max([self.most, *(x.numel() for x in tree_leaves(made) if isinstance(x, torch.Tensor))])
        return made


@pytest.mark.parametrize("method", PAGES)
def test_no_tensor_has_a_number_for_every_token_of_every_row(method, tmp_path, monkeypatch):
    (tmp_path / "many.py").write_text(TASK)
    found = {}
    for chunk in (40 * 601, 10**9):
        monkeypatch.setattr(tokens, "CHUNK", chunk)
        parts = assemble(METHODS[method](**PAGES[method]), Text(task=f"{tmp_path / 'many.py'}:Many"))
        with Sizes() as seen:
            batch = parts.collect(parts.policy, parts.critic)
            update(parts, batch)
        parts.collect.close()
        found[chunk] = seen.most
    ours, vocabulary = int(batch.mask.sum()), len(parts.policy.tokenizer)
    assert vocabulary == 601 and ours > 300, "rows are long enough to tell"
    assert found[10**9] >= ours * vocabulary, "all at once it would be seen"
    assert found[40 * 601] < ours * vocabulary / 1.5, "now nothing is larger than the layers inside the model"
