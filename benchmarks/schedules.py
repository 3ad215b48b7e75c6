"""Learning-rate schedules of the published methods, as a factor per epoch."""

import math
from collections.abc import Callable

from benchmarks.errors import InputError

FLOOR = 0.1
"""Smallest share of the learning rate that the schedules go down to."""

WARM_UP = 12
"""Epochs of warm-up of the SPIN schedule, in a training of 300."""


def cosine(epoch: int, epochs: int) -> float:
    """From 1 down to 0.1 over `epochs`, along half a cosine (GRIN, PSAN)."""
    return FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * min(epoch / epochs, 1)))


def magic(epoch: int, epochs: int) -> float:
    """Warm-up, then cosine restarts that shrink (SPIN, ImputeFormer).

    As published from 300 epochs on. The published formula has no short form: below 100 epochs its
    cosine stands still, and below 12 it never leaves the warm-up. Here a shorter training warms
    up for the same share of its epochs, rounded down, and goes through at least one cosine.
    """
    warm_up = min(WARM_UP, epochs * WARM_UP // 300)
    if epoch < warm_up:
        return max(FLOOR, epoch / warm_up)
    progress = (epoch - warm_up) / max(1, epochs - warm_up)
    if progress >= 1:
        return 0.0
    cycles = max(1, epochs // 100)
    wave = 0.5 * (1 + math.cos(math.pi * ((cycles * progress) % 1)))
    return max(FLOOR, wave * (1 - 0.67 * progress))


def constant(epoch: int, epochs: int) -> float:
    """Always 1."""
    return 1.0


SCHEDULES: dict[str, Callable[[int, int], float]] = {
    "none": constant,
    "cosine": cosine,
    "magic": magic,
}


def schedule(name: str) -> Callable[[int, int], float]:
    """The factor `f(epoch, epochs)` called `name`.

    Raises:
        InputError: an unknown name.
    """
    if name not in SCHEDULES:
        raise InputError(f"schedule={name!r} is unknown; choose from {', '.join(SCHEDULES)}")
    return SCHEDULES[name]
