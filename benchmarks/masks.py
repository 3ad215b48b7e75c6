"""Which readings are hidden from the methods and scored.

`True` in a drawn mask means "hide this entry". A generator is a pure function of the series'
shape, a seed and its parameters; `conf/mask/*.yaml` names it.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool

from benchmarks.data.series import Series
from benchmarks.errors import InputError


def published(
    shape: tuple[int, int],
    seed: int,
    p_fault: float,
    p_noise: float,
    min_length: int = 12,
    max_length: int = 47,
) -> Bool[np.ndarray, "t n"]:
    """The generator of the GRIN, SPIN and PSAN papers, to the bit.

    A sensor's faults all have the same length, and the rate of faults is a probability to start,
    not a share of hidden entries: 0.0015 and 0.05 hide about 9 %.

    Args:
        shape: steps and sensors of the whole series.
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
    steps, sensors = shape
    rng = np.random.default_rng(seed)
    starts = rng.random((steps, sensors, 1))[..., 0] < p_fault
    drawn = np.zeros(shape, dtype=bool)
    for sensor in np.flatnonzero(starts.any(axis=0)):
        length = min_length + rng.integers(0, max_length - min_length + 1)
        marked = np.flatnonzero(starts[:, sensor])[:, None] + np.arange(length)
        drawn[np.minimum(marked, steps - 1), sensor] = True
    return drawn | (rng.random((steps, sensors, 1))[..., 0] < p_noise)


def point(shape: tuple[int, int], seed: int, rate: float) -> Bool[np.ndarray, "t n"]:
    """Entries hidden at random, each with probability `rate`; the published generator.

    Raises:
        InputError: a rate outside (0, 1).
    """
    if not 0 < rate < 1:
        raise InputError(f"mask.rate={rate} must lie between 0 and 1, both excluded")
    return published(shape, seed, p_fault=0.0, p_noise=rate)


@dataclass(frozen=True)
class MaskedSeries:
    """A series of which part is hidden: what methods may see, and what they are scored on."""

    series: Series
    drawn: Bool[np.ndarray, "t n"]

    @cached_property
    def held_out(self) -> Bool[np.ndarray, "t n"]:
        """True where a real reading is hidden: what is scored."""
        return self.drawn & self.series.observed

    @cached_property
    def visible(self) -> Bool[np.ndarray, "t n"]:
        """True where a method may look, in training too."""
        return self.series.observed & ~self.drawn

    @cached_property
    def visible_values(self) -> np.ndarray:
        """Readings in original units `[t n]`, NaN where not visible."""
        return np.where(self.visible, self.series.values, np.float32(np.nan))

    @property
    def mask_hash(self) -> str:
        """SHA-256 (16 hex digits) of the drawn mask as uint8 `(t, n, 1)` in C order."""
        return mask_hash(self.drawn)

    def rates(self) -> dict[str, float]:
        """Shares of all entries: missing natively, hidden on top, and both."""
        native = 1 - float(self.series.observed.mean())
        hidden = float(self.held_out.mean())
        return {"rate_native": native, "rate_hidden": hidden, "rate_total": native + hidden}


def mask_hash(drawn: Bool[np.ndarray, "t n"]) -> str:
    """SHA-256, first 16 hex digits, of the mask as uint8 in C order."""
    return hashlib.sha256(np.ascontiguousarray(drawn, dtype=np.uint8).tobytes()).hexdigest()[:16]
