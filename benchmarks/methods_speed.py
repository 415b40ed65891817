"""Every other method on CartPole-v1, 64 x 128, beside each peer that has it: python benchmarks/methods_speed.py"""

import side_by_side
from side_by_side import Case, Runner, Table

B64 = {"env": "CartPole-v1", "envs": 64, "length": 128, "lr": 2.5e-4}
STEPS = {"logpi": 1_000_000, "plain": 120_000, "sb3": 100_000, "tianshou": 60_000}
ADAM = {"lr": 2.5e-4, "anneal": True}
FIELDS = {  # of logpi's pages, where the peers' settings are not its own
    "trpo": {},
    "npg": {},
    "a2c": {"n": 128},
    "reinforce": {"episodes": 64, **ADAM},
    "mdpo": {"epochs": 4, **ADAM},
}
PEERS = {
    "trpo": ("sb3-contrib", "tianshou"),
    "npg": ("tianshou",),
    "a2c": ("stable-baselines3", "tianshou"),
    "reinforce": ("tianshou",),
    "mdpo": (),
}


def runners(method: str) -> tuple[Runner, ...]:
    few = 5 if method == "reinforce" else 1  # short episodes make small iterations, which cost more each step
    own = {"logpi": FIELDS[method]}
    found = [
        Runner("logpi", "train_logpi", own | {"steps": STEPS["logpi"] // few}),
        Runner("logpi, plain (fast off)", "train_logpi", own | {"steps": STEPS["plain"] // few, "fast": "off"}),
    ]
    for peer in PEERS[method]:
        kind, home = ("tianshou", "tianshou") if peer == "tianshou" else ("sb3", "stable-baselines3")
        settings = {"steps": STEPS[kind] // few, "module": peer.replace("-", "_")}
        found.append(Runner(peer, f"train_{kind}", settings, home))
    return tuple(found)


TABLE = Table(
    "methods_speed",
    "CartPole-v1, 64 environments x 128 steps (reinforce: 64 whole episodes), two 64x64 tanh networks, normalisers off;"
    " trpo and npg: 10 steps of conjugate gradient, V fitted in 10 passes; one core; after the first tenth.",
    tuple(Case(method, B64 | {"method": method, "episodes": 64}, runners(method)) for method in FIELDS),
    picture="Steps per second of each method and runner",
)

if __name__ == "__main__":
    side_by_side.main(TABLE)
