"""Weighted graphs from road distances."""

import numpy as np
from jaxtyping import Float

from benchmarks.data.series import Series
from benchmarks.errors import InputError

KINDS = ("gaussian", "binary")


def adjacency(
    series: Series,
    kind: str,
    threshold: float = 0.1,
    force_symmetric: bool = False,
    scale: float | None = None,
) -> Float[np.ndarray, "n n"]:
    """Return the graph of a series.

    Args:
        series: with road distances.
        kind: `gaussian`: exp(-(d / scale)^2), as in Li et al. (DCRNN, ICLR 2018) and Cini et al.
            (GRIN, ICLR 2022); `binary`: 1 where a road link is listed.
        threshold: Gaussian weights below it become 0.
        force_symmetric: take the larger of the weights from i to j and from j to i.
        scale: metres; None = the standard deviation of all known distances, the zero of each sensor
            to itself included, as in both papers.

    Returns:
        float32; `[i, j]` = weight from i to j, 0 = no edge, 0 on the diagonal.

    Raises:
        InputError: for a series without road links, or an unknown kind.
    """
    if kind not in KINDS:
        raise InputError(f"graph kind {kind!r} is not one of {', '.join(KINDS)}")
    if series.distances is None:
        raise InputError(
            f"series {series.name} has no road distances: methods that need a graph cannot use it"
        )
    distances = series.distances.astype(np.float64)  # [n n]
    known = np.isfinite(distances)  # [n n]
    if known.sum() == series.n_nodes:
        raise InputError(f"series {series.name}: no road links any two of its sensors")
    if kind == "gaussian":
        weights = np.exp(-np.square(distances / (scale or distances[known].std())))  # [n n]
        weights = np.where(weights < threshold, 0.0, weights)
    else:
        weights = known.astype(np.float64)  # [n n]
    np.fill_diagonal(weights, 0.0)
    if force_symmetric:
        weights = np.maximum(weights, weights.T)  # [n n]
    return weights.astype(np.float32)
