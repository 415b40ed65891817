"""How sure a mean over few runs is."""

import numpy as np


def bootstrap(
    samples: np.ndarray, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """(low, high) [...] of the percentile bootstrap interval of the mean over the first axis of samples [n, ...].

    The n samples are drawn again with replacement `draws` times, the same draw for every column; the interval holds the
    middle `level` of the means (Efron 1979). Draws are counts: multinomial(n, 1/n each).
    """
    n = len(samples)
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=draws)
    means = np.tensordot(counts / n, samples, axes=1)
    low, high = np.quantile(means, ((1 - level) / 2, (1 + level) / 2), axis=0)
    return low, high
