"""What the language drivers tell: the first step is left out, the medians of the rest, and the most memory that the process held."""

import resource
import statistics
from collections.abc import Sequence

from clock import tell


def told(seconds: Sequence[float], sampled: Sequence[float], tokens: Sequence[int], packages: str) -> None:
    """value: seconds of a step; of sampling, with its rewards; of the rest; tokens sampled per second of whole steps."""
    step, sample = (statistics.median(x[1:]) for x in (seconds, sampled))
    rate = sum(tokens[1:]) / sum(seconds[1:])
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    tell(
        step,
        packages,
        sample=sample,
        train=step - sample,
        tokens=sum(tokens[1:]) / len(tokens[1:]),
        rate=rate,
        mib=memory,
    )
