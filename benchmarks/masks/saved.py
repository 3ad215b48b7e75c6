"""Masks beside the results: one file for all methods that were scored on it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from benchmarks.atomic import write_npz_atomically
from benchmarks.masks.masked import MaskedSeries


@dataclass(frozen=True)
class SavedMask:
    """What was hidden, and what there was to hide: bool `[t n]`, and the time `[t]`."""

    drawn: Bool[np.ndarray, "t n"]
    observed: Bool[np.ndarray, "t n"]
    time: np.ndarray


def mask_path(experiment: Path, dataset: str, fingerprint: str, mask_hash: str) -> Path:
    """File of a row's mask (columns `dataset`, `dataset_fingerprint` and `mask_hash`)."""
    return experiment / "masks" / f"{dataset}_{fingerprint}_{mask_hash}.npz"


def save_mask(experiment: Path, masked: MaskedSeries) -> None:
    """Writes the mask unless it is there; a bit per entry."""
    series = masked.series
    path = mask_path(experiment, series.name, series.fingerprint, masked.mask_hash)
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {
        "shape": np.array(masked.drawn.shape),
        "drawn": np.packbits(masked.drawn),
        "observed": np.packbits(series.observed),
        "time": series.time.to_numpy(),
    }
    write_npz_atomically(path, arrays)


def read_mask(path: Path) -> SavedMask:
    """Reads a mask that `save_mask` wrote."""
    with np.load(path) as file:
        shape = tuple(file["shape"])
        drawn, observed = (
            np.unpackbits(file[name], count=shape[0] * shape[1]).reshape(shape).astype(bool)
            for name in ("drawn", "observed")
        )
        return SavedMask(drawn, observed, file["time"])
