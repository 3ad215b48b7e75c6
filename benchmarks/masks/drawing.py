"""From a mask's configuration to a masked series."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from hydra.errors import InstantiationException
from hydra.utils import instantiate

from benchmarks.data.series import Series
from benchmarks.errors import InputError, NeedNotMetError
from benchmarks.masks.masked import MaskedSeries

EARTH_RADIUS = 6_371_000.0
"""Mean radius of the earth in metres (IUGG)."""


def _distances(series: Series) -> np.ndarray:
    if series.distances is not None:
        return series.distances
    if series.coordinates is None:
        raise NeedNotMetError(
            f"{series.name} has neither road distances nor coordinates, which the mask needs"
        )
    return great_circle(series.coordinates)


MASK_NEEDS: dict[str, Callable[[Series], object]] = {
    "values": lambda series: _read_only(series.values),
    "is_speed": lambda series: series.is_speed,
    "distances": lambda series: _read_only(_distances(series)),
}
"""What a generator may ask for by name under `needs:`, besides `observed` and `seed`."""


def mask_facts(needs: Sequence[str], series: Series) -> dict[str, Any]:
    """What a mask is drawn from that the series' fingerprint does not cover."""
    facts: dict[str, Any] = {}
    if "is_speed" in needs:
        facts["is_speed"] = series.is_speed
    if "distances" in needs and series.distances is None and series.coordinates is not None:
        facts["coordinates"] = series.coordinates.tolist()
    return facts


def draw_mask(
    generator: Mapping[str, Any], needs: Sequence[str], series: Series, seed: int
) -> MaskedSeries:
    """Draws a mask over a whole series.

    Raises:
        InputError: an unknown need, a value that the generator refuses, or a mask that is no bool
            array of the series' shape.
        NeedNotMetError: the dataset cannot provide what the generator needs.
    """
    unknown = sorted(set(needs) - set(MASK_NEEDS))
    if unknown:
        raise InputError(
            f"mask.needs has {', '.join(unknown)}; choose from {', '.join(MASK_NEEDS)}"
        )
    needed = {name: MASK_NEEDS[name](series) for name in needs}
    observed = _read_only(series.observed)
    try:
        drawn = instantiate(
            dict(generator), _convert_="all", observed=observed, seed=seed, **needed
        )
    except InstantiationException as error:  # hydra wraps what the generator raises
        cause = error.__cause__ or error
        if isinstance(cause, (ValueError, TypeError, InstantiationException)):
            raise InputError(f"{generator['_target_']}: {cause}") from error
        raise cause from error
    if not isinstance(drawn, np.ndarray) or (drawn.dtype, drawn.shape) != (bool, observed.shape):
        got = f"{getattr(drawn, 'dtype', type(drawn).__name__)} {getattr(drawn, 'shape', '')}"
        raise InputError(
            f"{generator['_target_']} returned {got}; a mask is bool {observed.shape}, True where "
            "a reading is hidden"
        )
    return MaskedSeries(series, drawn)


def _read_only(array: np.ndarray) -> np.ndarray:
    """A view that a generator cannot change by mistake."""
    view = array.view()
    view.flags.writeable = False
    return view


def great_circle(coordinates: np.ndarray) -> np.ndarray:
    """Distances in metres between points given as latitude and longitude in degrees, `[n n]`."""
    latitude, longitude = np.radians(coordinates).T
    half = np.sin((latitude[:, None] - latitude) / 2) ** 2
    half += (
        np.cos(latitude[:, None])
        * np.cos(latitude)
        * np.sin((longitude[:, None] - longitude) / 2) ** 2
    )
    return (2 * EARTH_RADIUS * np.arcsin(np.sqrt(half))).astype(np.float32)
