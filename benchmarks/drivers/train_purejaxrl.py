"""PureJaxRL's ppo.py as it is: compiled, then timed. Imports of its wrappers.py that ppo.py has no use for are empty.

A compiled program has no first tenth to leave out: value counts its whole run, and compilation is told apart.
"""

import os
import sys
import time
from types import ModuleType

began = time.perf_counter()
from clock import asked, tell  # noqa: E402

if asked["cores"] == 1:
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ["JAX_PLATFORMS"] = "cpu"
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402

for name, members in {
    "brax": "envs",
    "brax.envs": "",
    "brax.envs.wrappers": "",
    "brax.envs.wrappers.training": "EpisodeWrapper AutoResetWrapper",
    "navix": "",
}.items():
    sys.modules[name] = ModuleType(name)
    for member in members.split():
        setattr(sys.modules[name], member, None)
sys.path.insert(0, asked["source"])
from ppo import make_train  # noqa: E402

batch = asked["envs"] * asked["length"]
steps = asked["steps"] // batch * batch
config = {
    "LR": asked["lr"],
    "NUM_ENVS": asked["envs"],
    "NUM_STEPS": asked["length"],
    "TOTAL_TIMESTEPS": steps,
    "UPDATE_EPOCHS": asked["epochs"],
    "NUM_MINIBATCHES": asked["minibatches"],
    "GAMMA": 0.99,
    "GAE_LAMBDA": 0.95,
    "CLIP_EPS": 0.2,
    "ENT_COEF": asked["entropy"],
    "VF_COEF": 0.5,
    "MAX_GRAD_NORM": 0.5,
    "ACTIVATION": "tanh",
    "ENV_NAME": asked["env"],
    "ANNEAL_LR": True,
    "DEBUG": False,
}
key = jax.random.PRNGKey(asked["seed"])
program = jax.jit(make_train(config)).lower(key).compile()
start_up = time.perf_counter() - began
began = time.perf_counter()
info = jax.block_until_ready(program(key))["metrics"]
seconds = time.perf_counter() - began

done = info["returned_episode"].reshape(-1)
scores = info["returned_episode_returns"].reshape(-1)[done]
mean = jnp.convolve(scores, jnp.ones(100) / 100, mode="valid") if len(scores) >= 100 else jnp.zeros(1)
reached = mean >= asked.get("until", 475)
at = int(jnp.flatnonzero(done)[99:][jnp.argmax(reached)]) + 1 if reached.any() else None
values = {"rate": steps / seconds, "wall": None, "solved": start_up + seconds * (at or 0) / steps}
report = asked.get("report", "rate")
assert at or report == "rate", "not solved"
tell(
    values[report],  # None: the wall time of this process
    "jax jaxlib gymnax flax distrax numpy",
    score=float(mean[-1]),
    steps=steps,
    start_up=round(start_up, 3),
    training=round(seconds, 3),
    solved_at=at,
)
