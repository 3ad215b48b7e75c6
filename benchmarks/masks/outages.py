"""Faults that hide a given share of the readings: stretches of steps, group of sensors by group.

The sensors are divided into groups that fail together: single sensors, neighbourhoods, or the
whole network. Each group's faults have lengths drawn uniformly, lie at random, and are at least
one step apart; then their ends are moved, within the range of lengths, until the share is met.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from benchmarks.errors import InputError

TOLERANCE = 0.005
"""Largest difference between the requested and the realised share of hidden readings."""


@dataclass(frozen=True)
class Faults:
    """Faults of all groups, each group's together and in order of time; `end` is excluded."""

    group: Int[np.ndarray, "f"]
    start: Int[np.ndarray, "f"]
    end: Int[np.ndarray, "f"]


def draw_outages(
    observed: Bool[np.ndarray, "t n"],
    groups: Sequence[Int[np.ndarray, "..."]],
    rate: float,
    lengths: tuple[int, int],
    rng: np.random.Generator,
) -> Bool[np.ndarray, "t n"]:
    """Hides `rate` of the readings by faults, at any rate that leaves a step between two faults.

    Args:
        observed: True where there is a reading.
        groups: sensors that fail together, each sensor in one group.
        rate: share of the readings to hide, in (0, 1).
        lengths: shortest and longest fault, in steps.
        rng: source of the randomness.

    Returns:
        True where a reading is hidden.

    Raises:
        InputError: no range of lengths, or a rate that such faults cannot meet.
    """
    check_rate(rate)
    if not 1 <= lengths[0] <= lengths[1]:
        raise InputError(
            f"fault lengths {lengths[0]} to {lengths[1]} are no range of at least one step"
        )
    steps = len(observed)
    readings = np.stack([observed[:, group].sum(axis=1) for group in groups], axis=1)
    before = np.zeros((steps + 1, len(groups)), dtype=np.int64)  # readings before each step
    np.cumsum(readings, axis=0, out=before[1:])
    counts = _fault_counts(before[-1], rate, steps, lengths, rng)
    faults = _place(counts, steps, lengths, rng)
    target = rate * before[-1].sum()
    faults = _calibrate(faults, before, target, lengths, rng)
    mirrored = _calibrate(  # the same for the other ends, where the first were not enough
        _mirror(faults, steps), before[-1] - before[::-1], target, lengths, rng
    )
    faults = _mirror(mirrored, steps)
    drawn = np.zeros(observed.shape, dtype=bool)
    for group, start, end in zip(faults.group, faults.start, faults.end, strict=True):
        drawn[start:end, groups[group]] = True
    drawn &= observed
    _require_rate(drawn, observed, rate, lengths)
    return drawn


def check_rate(rate: float) -> None:
    """Refuses what is no share of the readings.

    Raises:
        InputError: a rate outside (0, 1).
    """
    if not 0 < rate < 1:
        raise InputError(f"mask.rate={rate} must lie between 0 and 1, both excluded")


def _fault_counts(
    readings: Int[np.ndarray, "g"],
    rate: float,
    steps: int,
    lengths: tuple[int, int],
    rng: np.random.Generator,
) -> Int[np.ndarray, "g"]:
    """Faults of each group: the expected number, rounded so that the total is right too.

    Few faults of unequal groups may be too short for the rate, or too long; then faults are added
    or taken away at random.
    """
    expected = rate * steps / (sum(lengths) / 2)
    total = np.floor(expected * np.arange(len(readings) + 1) + 0.5).astype(np.int64)
    counts = rng.permutation(np.diff(total))
    shortest, longest = (length * readings / steps for length in lengths)
    while counts @ longest < rate * readings.sum():
        counts[rng.integers(len(counts))] += 1
    while counts @ shortest > rate * readings.sum() and counts.sum() > 1:
        counts[rng.choice(np.flatnonzero(counts))] -= 1
    return counts


def _place(
    counts: Int[np.ndarray, "g"], steps: int, lengths: tuple[int, int], rng: np.random.Generator
) -> Faults:
    """Places each group's faults; every way in which they fit is equally likely."""
    starts, ends = [], []
    for count in counts.tolist():
        length = rng.integers(lengths[0], lengths[1] + 1, count)
        length = _shorten(length, lengths[0], steps - max(count - 1, 0), rng)
        slots = np.sort(rng.choice(steps - length.sum() + 1, count, replace=False))
        start = slots + length.cumsum() - length
        starts.append(start)
        ends.append(start + length)
    group = np.repeat(np.arange(len(counts)), counts)
    return Faults(group, np.concatenate(starts), np.concatenate(ends))


def _shorten(
    length: Int[np.ndarray, "f"], shortest: int, room: int, rng: np.random.Generator
) -> Int[np.ndarray, "f"]:
    """Cuts random faults until all fit into `room` steps."""
    if shortest * len(length) > room:
        raise InputError(
            f"{len(length)} faults of at least {shortest} steps do not fit into {room} steps: "
            "lower mask.rate or allow longer faults"
        )
    excess = int(length.sum()) - room
    for i in rng.permutation(len(length)):
        if excess <= 0:
            break
        cut = min(excess, int(length[i]) - shortest)
        length[i] -= cut
        excess -= cut
    return length


def _calibrate(
    faults: Faults,
    before: Int[np.ndarray, "s g"],
    target: float,
    lengths: tuple[int, int],
    rng: np.random.Generator,
) -> Faults:
    """Moves the ends of faults, in random order, until they hide `target` readings."""
    group, start, end = faults.group, faults.start, faults.end.copy()
    last_of_group = np.diff(group, append=-1) != 0
    limit = np.where(last_of_group, len(before) - 1, np.roll(start, -1) - 1)
    latest = np.minimum(start + lengths[1], limit)
    excess = float((before[end, group] - before[start, group]).sum() - target)
    for i in rng.permutation(len(group)):
        if excess == 0:
            break
        ends = np.arange(start[i] + lengths[0], latest[i] + 1)
        change = before[ends, group[i]] - before[end[i], group[i]]
        best = int(np.argmin(np.abs(excess + change)))
        if abs(excess + change[best]) < abs(excess):
            excess += float(change[best])
            end[i] = ends[best]
    return Faults(group, start, end)


def _mirror(faults: Faults, steps: int) -> Faults:
    """The same faults seen backwards in time."""
    return Faults(faults.group[::-1], steps - faults.end[::-1], steps - faults.start[::-1])


def _require_rate(
    drawn: Bool[np.ndarray, "t n"],
    observed: Bool[np.ndarray, "t n"],
    rate: float,
    lengths: tuple[int, int],
) -> None:
    realised = drawn.sum() / observed.sum()
    if realised == 0 or abs(realised - rate) > TOLERANCE:
        raise InputError(
            f"mask.rate={rate} cannot be met on {len(drawn)} steps by faults of {lengths[0]} to "
            f"{lengths[1]} steps; the nearest is {realised:.3f}: choose another rate or other "
            "lengths"
        )
