"""The experiments that ship: everything that they name is there."""

from typing import Any

import pytest
from small_series import composed

from benchmarks.cell import PROTOCOLS
from benchmarks.paths import conf_dir
from benchmarks.sweeps import read_experiment

EXPERIMENTS = sorted(path.stem for path in conf_dir().glob("experiment/*.yaml"))


def grids(name: str) -> list[dict[str, Any]]:
    """What an experiment sweeps over."""
    sweep = read_experiment(name, [conf_dir()])["sweep"]
    return sweep if isinstance(sweep, list) else [sweep]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_what_is_swept_exists(name: str) -> None:
    for grid in grids(name):
        for group in ("dataset", "mask", "model"):
            choices = grid.get(group, [])
            assert len(choices) == len(set(choices))
            for choice in choices:
                assert (conf_dir() / group / f"{choice}.yaml").exists(), f"{group}={choice}"


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_each_grid_composes(name: str) -> None:
    for grid in grids(name):
        first = [f"{key}={values[0]}" for key, values in grid.items()]
        plain = composed(f"experiment={name}", *first)
        assert plain["name"] == name
        assert any(protocol in plain["mask"] for protocol in PROTOCOLS)
