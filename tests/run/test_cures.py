"""What the doctor says to do can be done: it names fields of the run's page and flags of its world."""

from dataclasses import replace

import pytest

from logpi.run import doctor
from logpi.run.doctor import Log

ROWS = [{"iteration": i, "return": 20.0, "explained_variance": -0.5, "kl": 0.3} for i in range(10)]
LOG = Log(ROWS, {"state": "finished"})
CURES = {  # of a critic that is worse than a constant, and of steps that are too large
    ("ppo", False): ("another value_coef, more epochs or --normalise-reward", "fewer epochs or a target_kl"),
    ("ppo", True): ("another value_coef, more epochs or --value-model copy", "fewer epochs or a target_kl"),
    ("trpo", False): (": a larger critic_lr, more critic_epochs or --normalise-reward", "too large: a smaller delta"),
    ("trpo", True): (": a larger critic_lr, more critic_epochs or --value-model copy", "too large: a smaller delta"),
    ("mine", True): (": --value-model copy", "too large: another method: this one has no setting"),
}


@pytest.mark.parametrize(("method", "text"), CURES)
def test_cures_are_fields_of_the_page_and_flags_of_the_world(method, text):
    log = replace(LOG, method={"name": method}, text=text)
    for check, words in zip((doctor.critic, doctor.step_size), CURES[method, text], strict=True):
        assert check(log).do.endswith(words)


def test_a_field_of_the_users_own_page_is_one_too():
    log = replace(LOG, method={"name": "./mine.py:Mine", "delta": 0.1})
    assert doctor.step_size(log).do.endswith("too large: a smaller delta")
