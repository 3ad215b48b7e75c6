"""What an experiment's sweep becomes on the command line."""

from pathlib import Path

import pandas as pd
import pytest
from commands import call

from benchmarks.errors import InputError
from benchmarks.sweeps import cells_of, expand_experiment, task_overrides

GRIDS = """# @package _global_
sweep:
  - {mask: [point], mask.rate: [0.25, 0.75], model: [mean, last, linear]}
  - {mask: [block], model: [mean, last]}
"""


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """A configuration folder with an experiment of two grids."""
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/grids.yaml").write_text(GRIDS)
    return f"--config-dir={tmp_path}"


def cells(launch: list[str]) -> int:
    """How many cells a command line asks for."""
    return len(cells_of(task_overrides(launch)))


def test_each_grid_is_a_launch(folder: str) -> None:
    given = ["-m", folder, "experiment=grids"]
    first, second = expand_experiment(given)
    assert first[3:] == ["mask=point", "mask.rate=0.25,0.75", "model=mean,last,linear"]
    assert second[3:] == ["mask=block", "model=mean,last"]
    assert [cells(launch) for launch in (first, second)] == [6, 2]


def test_the_command_line_replaces_a_key_of_every_grid(folder: str) -> None:
    launches = expand_experiment(["-m", folder, "experiment=grids", "model=mean"])
    assert [cells(launch) for launch in launches] == [2, 1]
    assert all(launch.count("model=mean") == 1 for launch in launches)
    assert not any("model=mean,last" in argument for launch in launches for argument in launch)


@pytest.mark.parametrize(
    ("given", "swept"),
    [
        (["mask=block"], ["model=mean,last"]),
        (["mask=point"], ["mask.rate=0.25,0.75", "model=mean,last,linear"]),
        (["mask.rate=0.5"], ["mask=point", "model=mean,last,linear"]),
        (["mask=point", "mask.rate=0.25", "model=linear"], []),
    ],
)
def test_what_is_given_chooses_the_grids_that_have_it(
    folder: str, given: list[str], swept: list[str]
) -> None:
    (launch,) = expand_experiment(["-m", folder, "experiment=grids", *given])
    assert sorted(launch[3:]) == sorted([*given, *swept])


def test_several_values_go_to_the_grids_that_have_them(folder: str) -> None:
    given = ["-m", folder, "experiment=grids", "mask=point,block", "model=linear,mean"]
    first, second = expand_experiment(given)
    assert first[3:] == ["mask=point", "model=linear,mean", "mask.rate=0.25,0.75"]
    assert second[3:] == ["mask=block", "model=mean"]


def test_new_values_are_for_all_grids_that_sweep_the_key(folder: str) -> None:
    launches = expand_experiment(["-m", folder, "experiment=grids", "mask=blackout"])
    assert [launch[3:] for launch in launches] == [
        ["mask=blackout", "mask.rate=0.25,0.75", "model=mean,last,linear"],
        ["mask=blackout", "model=mean,last"],
    ]


def test_values_that_no_grid_has_stand_beside_those_that_some_have(folder: str) -> None:
    """None may vanish in silence: it is run, or refused by Hydra."""
    launches = expand_experiment(["-m", folder, "experiment=grids", "model=linear,my_own"])
    assert [launch[3] for launch in launches] == ["model=linear,my_own", "model=my_own"]
    (launch,) = expand_experiment(["-m", folder, "experiment=grids", "mask.rate=choice(0.25,0.9)"])
    assert "mask.rate=0.25,0.9" in launch


def test_what_no_grid_has_together_is_refused(folder: str) -> None:
    with pytest.raises(InputError, match=r"mask=block and mask.rate=0.25.*mask=point; mask.rate"):
        expand_experiment(["-m", folder, "experiment=grids", "mask=block", "mask.rate=0.25"])


def test_a_sweep_needs_m_and_an_experiment_a_file(folder: str) -> None:
    with pytest.raises(InputError, match=r"experiment=grids is a sweep.*-m"):
        expand_experiment([folder, "experiment=grids"])
    with pytest.raises(InputError, match=r"experiment=nets is unknown; choose from .*grids"):
        expand_experiment(["-m", folder, "experiment=nets"])


def test_a_refused_cell_stops_no_other_grid(folder: str, tmp_path: Path) -> None:
    given = ("-m", folder, "experiment=grids", "mask.rate=2", "model=mean", "dataset=simulated")
    done = call(tmp_path, "run", *given, "tracking=none")
    assert done.returncode == 1
    assert "mask.rate=2" in done.stderr
    good = (tmp_path / "experiment/grids.yaml").read_text().replace("[0.25, 0.75]", "[2, 0.75]")
    (tmp_path / "experiment/grids.yaml").write_text(good)
    given = ("-m", folder, "experiment=grids", "model=mean", "dataset=simulated")
    done = call(tmp_path, "run", *given, "tracking=none")
    assert done.returncode == 1
    assert "mask.rate=2" in done.stderr
    table = pd.read_csv(tmp_path / "results/default/runs.csv")
    assert "block" in set(table["pattern"])


def test_without_an_experiment_nothing_is_added() -> None:
    assert expand_experiment(["model=mean"]) == [["model=mean"]]
