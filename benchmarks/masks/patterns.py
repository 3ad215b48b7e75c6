"""The ways in which real sensors fail; each hides the requested share of the readings.

`rate` is the share of the readings of the whole series that is hidden; it is met within 0.5
percentage points or refused. What was never read is never drawn.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from benchmarks.errors import InputError
from benchmarks.masks.outages import TOLERANCE, check_rate, draw_outages


def point(observed: Bool[np.ndarray, "t n"], seed: int, rate: float) -> Bool[np.ndarray, "t n"]:
    """Single readings at random.

    Raises:
        InputError: a rate outside (0, 1).
    """
    check_rate(rate)
    return _largest(np.random.default_rng(seed).random(observed.shape), observed, rate)


def block(
    observed: Bool[np.ndarray, "t n"], seed: int, rate: float, min_length: int, max_length: int
) -> Bool[np.ndarray, "t n"]:
    """Faults of single sensors, each of `min_length` to `max_length` steps.

    Raises:
        InputError: no range of lengths, or a rate that such faults cannot meet.
    """
    groups = list(np.arange(observed.shape[1])[:, None])
    rng = np.random.default_rng(seed)
    return draw_outages(observed, groups, rate, (min_length, max_length), rng)


def spatial_block(
    observed: Bool[np.ndarray, "t n"],
    distances: Float[np.ndarray, "n n"],
    seed: int,
    rate: float,
    size: int,
    min_length: int,
    max_length: int,
) -> Bool[np.ndarray, "t n"]:
    """Connected neighbourhoods out together, each of at most `size` sensors.

    Args:
        observed: True where there is a reading.
        distances: metres from sensor to sensor, inf where none is known.
        seed: of the neighbourhoods and of the faults.
        rate: share of the readings to hide.
        size: sensors in a neighbourhood; fewer where no unassigned neighbour is left.
        min_length: shortest fault, in steps.
        max_length: longest fault, in steps.

    Raises:
        InputError: a size below 1, no range of lengths, or a rate that such faults cannot meet.
    """
    if size < 1:
        raise InputError(f"size={size}: a neighbourhood has at least 1 sensor")
    rng = np.random.default_rng(seed)
    groups = neighbourhoods(distances, size, rng)
    return draw_outages(observed, groups, rate, (min_length, max_length), rng)


def blackout(
    observed: Bool[np.ndarray, "t n"], seed: int, rate: float, min_length: int, max_length: int
) -> Bool[np.ndarray, "t n"]:
    """The whole network out at once.

    Raises:
        InputError: no range of lengths, or a rate that such faults cannot meet.
    """
    everything = [np.arange(observed.shape[1])]
    rng = np.random.default_rng(seed)
    return draw_outages(observed, everything, rate, (min_length, max_length), rng)


def sensor(observed: Bool[np.ndarray, "t n"], seed: int, rate: float) -> Bool[np.ndarray, "t n"]:
    """Sensors that are never seen (kriging).

    Where whole sensors miss the requested share by more than `TOLERANCE`, which happens below 100
    sensors only, one more is unseen up to some step, as if it had been installed then.

    Raises:
        InputError: a rate outside (0, 1).
    """
    check_rate(rate)
    order = np.random.default_rng(seed).permutation(observed.shape[1])
    drawn = np.zeros_like(observed)
    share = observed[:, order].sum(axis=0).cumsum() / observed.sum()
    nearest = int(np.argmin(np.abs(share - rate)))
    if abs(share[nearest] - rate) <= TOLERANCE:
        drawn[:, order[: nearest + 1]] = True
        return drawn & observed
    readings = observed[:, order].T.ravel().cumsum()  # sensor after sensor
    hidden = readings <= round(rate * readings[-1])
    drawn[:, order] = hidden.reshape(observed.shape[::-1]).T
    return drawn & observed


def mnar(
    observed: Bool[np.ndarray, "t n"],
    values: Float[np.ndarray, "t n"],
    is_speed: bool,
    seed: int,
    rate: float,
    strength: float,
) -> Bool[np.ndarray, "t n"]:
    """Readings that go missing because of what they are: those of congested or busy roads.

    The log-odds of being hidden change by `strength` with each standard deviation that a speed
    lies below, or a flow above, its sensor's mean.

    Args:
        observed: True where there is a reading.
        values: the readings; anything where there is none.
        is_speed: whether low values mean congestion.
        seed: of the draw.
        rate: share of the readings to hide.
        strength: 0 hides at random.

    Raises:
        InputError: a rate outside (0, 1), or a strength that is not a number from 0 on.
    """
    check_rate(rate)
    if not 0 <= strength < np.inf:
        raise InputError(f"strength={strength} must be a number from 0 on")
    readings = np.where(observed, values, np.float32(np.nan))
    deviation = readings - np.nanmean(readings, axis=0)
    spread = np.nanstd(readings, axis=0)
    scaled = np.divide(deviation, spread, out=np.zeros_like(deviation), where=spread > 0)
    luck = np.random.default_rng(seed).logistic(size=observed.shape)
    return _largest((-scaled if is_speed else scaled) * strength + luck, observed, rate)


def neighbourhoods(
    distances: Float[np.ndarray, "n n"], size: int, rng: np.random.Generator
) -> list[Int[np.ndarray, "..."]]:
    """Divides the sensors at random into connected groups of at most `size`.

    A group grows from a random sensor by the unassigned sensor nearest to any of its members.
    """
    near = np.minimum(distances, distances.T).astype(np.float64)
    free = np.ones(len(near), dtype=bool)
    groups = []
    for first in rng.permutation(len(near)):
        if not free[first]:
            continue
        group = [int(first)]
        free[first] = False
        reach = near[first].copy()
        while len(group) < size:
            candidate = int(np.argmin(np.where(free, reach, np.inf)))
            if not free[candidate] or np.isinf(reach[candidate]):
                break
            group.append(candidate)
            free[candidate] = False
            reach = np.minimum(reach, near[candidate])
        groups.append(np.array(group))
    return groups


def _largest(
    score: Float[np.ndarray, "t n"], observed: Bool[np.ndarray, "t n"], rate: float
) -> Bool[np.ndarray, "t n"]:
    """True for the readings with the largest scores, `rate` of them."""
    drawn = np.zeros_like(observed)
    of_readings = score[observed]
    count = round(rate * len(of_readings))
    chosen = np.zeros(len(of_readings), dtype=bool)
    chosen[np.argpartition(-of_readings, count - 1)[:count]] = count > 0
    drawn[observed] = chosen
    return drawn
