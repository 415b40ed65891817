"""How much of a language model's run lies in memory at once."""

import ctypes
import gc
import subprocess
import sys

import pytest
import torch
from lm.little import LETTERS, little

from logpi import device
from logpi.lm import at_once, reward_model
from logpi.lm.at_once import kept
from logpi.methods import GRPO
from logpi.policy.tokens import Tokens
from logpi.run.language import Text
from logpi.run.setup import assemble

TELLS = sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallinfo2")
GIVES_BACK = """
import sys, torch
from logpi.device import give_back
def held(): return next(int(x.split()[1]) for x in open("/proc/self/status") if x.startswith("VmRSS")) / 1024
del [*[torch.zeros(5_000_000)]][0]  # from now on the C library keeps what is freed of less than that
tensors = [torch.ones(1_000_000) for _ in range(60)]
full, tensors = held(), tensors[1::2]  # every other one: the holes are not at the end
holes = held()
give_back(int(sys.argv[1]))
print(full - holes, holes - held())
"""


def held(policy: Tokens, tokens: int) -> int:
    return kept(policy.hidden, torch.zeros(1, tokens, dtype=torch.long))


def test_what_is_kept_grows_with_the_tokens_and_of_so_many_it_fits(monkeypatch):
    policy = little(dtype=torch.float32)
    few, more, many = (held(policy, n) for n in (16, 32, 48))
    assert many - more == pytest.approx(more - few, rel=0.1)
    most = more + 2 * (many - more)  # what is kept for no token at all are parameters
    monkeypatch.setitem(at_once.HELD, "cpu", most)
    monkeypatch.setattr(at_once, "SHARE", 0.0)
    tokens = policy.at_once()
    each = (many - few) / 32
    assert 0.8 * most < tokens * each <= 1.1 * most
    monkeypatch.setitem(at_once.HELD, "cpu", most // 4)
    assert policy.at_once() == pytest.approx(tokens / 4, abs=1)
    monkeypatch.setattr(at_once, "SHARE", most / sum(p.nbytes for p in policy.model.parameters()))
    assert policy.at_once() == pytest.approx(tokens * 5 / 4, abs=1)  # large weights are worth more tokens


def test_nothing_of_what_was_measured_stays():
    def there() -> int:
        return sum(type(x) is torch.Tensor for x in gc.get_objects())

    policy = little(dtype=torch.float32)
    held(policy, 16)
    before = there()
    held(policy, 16)
    assert there() == before


def test_a_model_of_few_tokens_takes_as_many_as_another():
    policy = little(dtype=torch.float32)
    many = policy.at_once()
    policy.context = 8
    assert policy.at_once() == pytest.approx(many, rel=0.2)


def test_a_reward_model_takes_as_many_as_its_gradient_has_memory_for(monkeypatch):
    judge = reward_model.begin("tiny", LETTERS)
    monkeypatch.setattr(at_once, "SHARE", 0.0)
    many = judge.at_once()
    monkeypatch.setitem(at_once.HELD, "cpu", at_once.HELD["cpu"] // 4)
    assert judge.at_once() == pytest.approx(many / 4, abs=1) and many > 1_000


def test_a_run_takes_so_many_unless_it_is_told(monkeypatch):
    monkeypatch.setitem(at_once.HELD, "cpu", 2**20)
    page = GRPO(starts=2, group=2)
    own, told = (assemble(page, Text(task="copy", micro=micro), "grpo", None) for micro in (None, 48))
    assert own.micro == own.collect.micro == own.policy.at_once() < 2**10
    assert told.micro == told.collect.micro == 48


def test_bfloat16_keeps_few_kernels_and_the_users_own_number_stays(monkeypatch):
    policy = little(dtype=torch.float32)
    for name in device.KEEPERS:
        monkeypatch.delenv(name, raising=False)
    Tokens(policy.model)
    assert not device.os.environ.keys() & set(device.KEEPERS)
    Tokens(policy.model, bf16=True)
    assert [device.os.environ[name] for name in device.KEEPERS] == [device.SHAPES] * 2
    monkeypatch.setenv(device.KEEPERS[0], "9")
    device.few_kernels()
    assert device.os.environ[device.KEEPERS[0]] == "9"


def test_a_c_library_that_does_not_tell_is_left_alone(monkeypatch):
    monkeypatch.setattr(device.ctypes, "CDLL", lambda _: object())  # as musl's, or one before glibc 2.33
    device.give_back(0)


@pytest.mark.skipif(not TELLS, reason="of the GNU C library from 2.33 on")
def test_memory_that_is_free_again_goes_back_where_it_is_much():
    def freed(most: int) -> tuple[float, float]:
        done = subprocess.run([sys.executable, "-c", GIVES_BACK, str(most)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        at_once, given = map(float, done.stdout.split())
        return at_once, given

    kept_at_once, given = freed(2**24)
    assert kept_at_once < 20 and given > 80  # MiB, of 115 that were freed
    assert freed(2**31)[1] < 20
