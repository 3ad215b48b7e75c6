"""Nearest neighbours on the graph: the mean of what the k nearest sensors read at that step.

Andrea Cini, Ivan Marisca, Cesare Alippi. "Filling the G_ap_s: Multivariate Time Series Imputation
by Graph Neural Networks". ICLR 2022. arXiv:2108.00298. Section 4, baseline KNN: the mean over the
k = 10 sensors with the largest weights. All neighbours count alike; those not visible are left out.

Deviations:

* An edge in either direction makes two sensors neighbours; the published code follows the edges
  that leave a sensor.
* Few sensors of a thresholded graph have ten edges. The published code fills up with whatever
  sensor comes first at weight 0; here the next ones along the paths of the graph follow. An edge of
  weight w has length sqrt(1 - log(w)), that is sqrt(1 + (d / scale)²) for a Gaussian of the
  distance d and one hop for an edge of weight 1, so that a direct neighbour is nearer than one two
  edges away.
* Where none of them is visible the published code takes a mean over all entries, the missing ones
  counted as 0; here it is the mean of the sensor.
* `standardise` (off, as published) averages the neighbours' standardised readings and gives them
  the sensor's own mean and standard deviation: sensors of one road count very different flows.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.sparse import csr_array
from scipy.sparse.csgraph import shortest_path

from baselines.gaps import network_mean, visible_mean, visible_moments


class KNN:
    """Mean of the readings visible at a step at the sensors nearest on the graph.

    Args:
        adjacency: `[i, j]` = weight of the edge from i to j, 0 = none; the diagonal is not read.
        k: neighbours of a sensor, fewer where the graph connects it to fewer.
        standardise: average standardised readings instead of readings.

    Raises:
        ValueError: `k` is below 1.
    """

    def __init__(
        self, *, adjacency: Float[torch.Tensor, "n n"], k: int = 10, standardise: bool = False
    ):
        if k < 1:
            raise ValueError(f"k={k} must be at least 1")
        self.neighbours = nearest(adjacency.numpy().astype(np.float64), k)
        self.standardise = standardise

    def impute(
        self, values: Float[np.ndarray, "t n"], visible: Bool[np.ndarray, "t n"]
    ) -> Float[np.ndarray, "t n"]:
        """Fill a series.

        Where no neighbour is visible an entry gets the mean of its sensor, and of the sensors
        visible at its step if the sensor is never visible.

        Args:
            values: readings in their own unit; anything where not visible.
            visible: True where `values` may be read.

        Raises:
            ValueError: if nothing at all is visible.
        """
        of_step = network_mean(values, visible)[:, None]
        of_sensor = visible_mean(values, visible, axis=0)
        level, spread = self._scale(values, visible) if self.standardise else (0.0, 1.0)
        readings = np.where(visible, (values - level) / spread, 0.0)
        links = self.neighbours.T.astype(np.float64)
        count = visible.astype(np.float64) @ links
        average = np.divide(readings @ links, count, out=count.copy(), where=count > 0)
        fallback = np.where(np.isnan(of_sensor), of_step, of_sensor)
        filled = np.where(count > 0, level + spread * average, fallback)
        return np.where(visible, values, filled.astype(values.dtype))

    def _scale(
        self, values: Float[np.ndarray, "t n"], visible: Bool[np.ndarray, "t n"]
    ) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n"]]:
        """Mean and standard deviation of each sensor, and its neighbours' if it has none."""
        level, spread = visible_moments(values, visible)
        known = ~np.isnan(level)
        for moment, default in ((level, visible_mean(values, visible)), (spread, 1.0)):
            links = self.neighbours & known
            total = links @ np.where(known, moment, 0.0)
            count = links.sum(axis=1)
            borrowed = np.where(count > 0, total / np.maximum(count, 1), default)
            moment[~known] = borrowed[~known]
        return level, spread


def nearest(adjacency: Float[np.ndarray, "n n"], k: int) -> Bool[np.ndarray, "n n"]:
    """Whether the sensor of the column is among the `k` nearest of the sensor of the row.

    Between equally near sensors the one that comes first is taken.
    """
    weight = np.maximum(adjacency, adjacency.T)
    np.fill_diagonal(weight, 0.0)
    start, end = np.nonzero(weight)
    length = np.sqrt(1 - np.log(weight[start, end] / weight.max(initial=1.0)))
    distance = shortest_path(csr_array((length, (start, end)), shape=weight.shape))
    np.fill_diagonal(distance, np.inf)
    order = np.argsort(distance, axis=1, kind="stable")[:, :k]
    found = np.zeros(weight.shape, dtype=bool)
    np.put_along_axis(found, order, True, axis=1)
    return found & np.isfinite(distance)
