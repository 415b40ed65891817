"""Train PPO on CartPole and watch the numbers: one record per iteration."""

import logpi

for record in logpi.learn("ppo", "CartPole-v1", steps=100_000, seed=1):
    if record.iteration % 10 == 0:
        print(
            f"{record.steps:>7,} steps  return {record['return']:6.1f}  KL {record['kl']:.4f}  entropy {record['entropy']:.3f}"
        )
    if record["episodes"] >= 100 and record["return"] >= 475:
        print(f"solved after {record.steps:,} steps")
        break
