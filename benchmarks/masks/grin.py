"""The generator of GRIN, SPIN and PSAN, to the bit: `protocol=grin`.

Andrea Cini, Ivan Marisca, Cesare Alippi. "Filling the G_ap_s: Multivariate Time Series Imputation
by Graph Neural Networks". ICLR 2022. arXiv:2108.00298. Section 4, and the paper's code,
github.com/Graph-Machine-Learning-Group/grin.
"""

import numpy as np
from jaxtyping import Bool

from benchmarks.errors import InputError


def published(
    observed: Bool[np.ndarray, "t n"],
    seed: int,
    p_fault: float,
    p_noise: float,
    min_length: int = 12,
    max_length: int = 47,
) -> Bool[np.ndarray, "t n"]:
    """Faults and single entries, as published.

    A sensor's faults all have the same length, and the rate of faults is a probability to start,
    not a share of hidden entries: 0.0015 and 0.05 hide about 9 %.

    Args:
        observed: the whole series' readings; only its shape counts.
        seed: of `numpy.random.default_rng`.
        p_fault: probability that a fault starts at an entry.
        p_noise: probability that an entry is hidden on its own.
        min_length: shortest fault, in steps.
        max_length: longest fault, in steps.

    Returns:
        True where an entry is drawn, `[t n]`.

    Raises:
        InputError: a probability outside [0, 1), both zero, or lengths that are no range.
    """
    for name, value in (("p_fault", p_fault), ("p_noise", p_noise)):
        if not 0 <= value < 1:
            raise InputError(f"{name}={value} is not a probability: it must be in [0, 1)")
    if p_fault == p_noise == 0:
        raise InputError("p_fault=0 and p_noise=0 hide nothing: one of them must be above 0")
    if not 1 <= min_length <= max_length:
        raise InputError(
            f"fault lengths {min_length} to {max_length} are no range of at least one step"
        )
    steps, sensors = observed.shape
    rng = np.random.default_rng(seed)
    starts = rng.random((steps, sensors, 1))[..., 0] < p_fault
    drawn = np.zeros(observed.shape, dtype=bool)
    for sensor in np.flatnonzero(starts.any(axis=0)):
        length = min_length + rng.integers(0, max_length - min_length + 1)
        marked = np.flatnonzero(starts[:, sensor])[:, None] + np.arange(length)
        drawn[np.minimum(marked, steps - 1), sensor] = True
    return drawn | (rng.random((steps, sensors, 1))[..., 0] < p_noise)


def point(observed: Bool[np.ndarray, "t n"], seed: int, rate: float) -> Bool[np.ndarray, "t n"]:
    """Entries hidden at random, each with probability `rate`; the published generator.

    Raises:
        InputError: a rate outside (0, 1).
    """
    if not 0 < rate < 1:
        raise InputError(f"mask.rate={rate} must lie between 0 and 1, both excluded")
    return published(observed, seed, p_fault=0.0, p_noise=rate)
