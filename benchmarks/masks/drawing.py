"""From a mask's configuration to a masked series."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
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
    "values": lambda series: series.values,
    "is_speed": lambda series: series.is_speed,
    "distances": _distances,
}
"""What a generator may ask for by name under `needs:`, besides `observed` and `seed`."""


def draw_mask(
    generator: Mapping[str, Any], needs: list[str], series: Series, seed: int
) -> MaskedSeries:
    """Draws a mask over a whole series.

    Raises:
        InputError: an unknown need, or a value that the generator refuses.
        NeedNotMetError: the dataset cannot provide what the generator needs.
    """
    unknown = sorted(set(needs) - set(MASK_NEEDS))
    if unknown:
        raise InputError(
            f"mask.needs has {', '.join(unknown)}; choose from {', '.join(MASK_NEEDS)}"
        )
    needed = {name: MASK_NEEDS[name](series) for name in needs}
    try:
        drawn = instantiate(
            dict(generator), _convert_="all", observed=series.observed, seed=seed, **needed
        )
    except Exception as error:  # hydra wraps what the generator raises
        raise InputError(str(error.__cause__ or error)) from error
    return MaskedSeries(series, drawn)


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
