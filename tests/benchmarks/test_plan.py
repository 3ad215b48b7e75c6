"""Plans and the state of sweeps, without running them."""

import json
import time
from pathlib import Path

import pytest
from commands import call

from benchmarks.compose import cell_of, composer
from benchmarks.identify import identify
from benchmarks.plan import FILE, Plan, keep_plan, kept_plan, make_plan
from benchmarks.progress import duration, look, report
from benchmarks.rows import write_row
from benchmarks.sweeps import cells_of, task_overrides

SWEEP = ("-m", "dataset=simulated", "model=mean,psan", "mask.rate=0.25,0.5", "tracking=none")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def test_values_put_on_a_shared_composition_are_those_of_hydra() -> None:
    arguments = (
        "-m", "experiment=demo", "dataset=simulated,pems08", "model=psan,linear", "seed=1,2",
        "mask.rate=0.1,0.9", "model.citation='a, b'", "++trainer.devices=1", "window=12",
    )  # fmt: skip
    with composer(arguments) as composing:
        for overrides in cells_of(task_overrides(arguments)):
            whole = composing.loader.load_sweep_config(composing.sweep, overrides)
            assert composing.cell(overrides) == cell_of(whole)


def test_the_plan_has_the_keys_that_the_runs_will_have() -> None:
    plan = make_plan(SWEEP)
    assert plan.folder == Path("results/default")
    with composer(SWEEP) as composing:
        keys = [identify(composing.cell(cell.overrides)[0]).key for cell in plan.cells]
    assert [cell.key for cell in plan.cells] == keys
    assert len(set(keys)) == 4


def test_a_cell_that_two_grids_have_is_planned_once(tmp_path: Path) -> None:
    (tmp_path / "conf/experiment").mkdir(parents=True)
    (tmp_path / "conf/experiment/twice.yaml").write_text(
        "# @package _global_\nname: twice\nsweep:\n"
        "  - {model: [mean, last]}\n  - {model: [mean], seed: [1, 2]}\n"
    )
    plan = make_plan(["-m", "--config-dir=conf", "experiment=twice", "dataset=simulated"])
    assert [cell.identity["model"] for cell in plan.cells] == ["mean", "last"]


def test_a_kept_plan_serves_until_what_it_depends_on_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "conf/model").mkdir(parents=True)
    sweep = (*SWEEP, "--config-dir=conf", "data_root=data")
    made = kept_plan(sweep)
    assert not made.folder.exists()  # looking leaves nothing behind
    keep_plan(made, sweep)
    anew = Plan(Path("made anew"), [])
    monkeypatch.setattr("benchmarks.plan.make_plan", lambda arguments: anew)
    assert kept_plan(sweep) == made
    assert kept_plan((*sweep[1:], "hydra/launcher=joblib", "timeout=9", "-m")) == made
    assert kept_plan((*sweep, "seed=1")) == anew
    (tmp_path / "data/metr_la").mkdir(parents=True)
    (tmp_path / "data/metr_la/METR-LA.csv").write_text("new")
    assert kept_plan(sweep) == anew
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results/default" / FILE).write_text("{half")
    assert [cell.key for cell in kept_plan(sweep).cells] == [cell.key for cell in made.cells]


def test_thousand_cells_are_looked_at_in_two_seconds(tmp_path: Path) -> None:
    """Wall time would depend on what else the machine does: processor time is what is limited."""
    arguments = ("model=mean", "dataset=simulated", "seed=1", f"mask_seed=range({1000})")
    planned = make_plan(["-m", *arguments])
    assert len(planned.cells) == 1000
    for cell in planned.cells[:-7]:
        row = {**cell.identity, "status": "done", "reason": "", "seconds": 2.0, "finished": "now"}
        write_row(planned.folder, row)
    keep_plan(planned, ["-m", *arguments])
    started = time.process_time()
    text = report(plan := kept_plan(["-m", *arguments]), look(plan))
    assert time.process_time() - started < 2
    for part in ("1000 cells", "done            993", "missing", "33 min 6 s", "about 14 s"):
        assert part in text
    shown = call(tmp_path, "status", *arguments)
    assert shown.stdout == text


def test_plan_shows_what_a_launch_would_do_and_does_nothing(tmp_path: Path) -> None:
    common = ("dataset=simulated", "tracking=none")
    assert call(tmp_path, "run", "model=mean", *common).returncode == 0
    before = {path for path in (tmp_path / "results").rglob("row.json")}
    given = ("model=mean,brits", "mask.rate=0.25,3")
    done = call(tmp_path, "run", "--plan", "-m", *given, *common)
    assert done.returncode == 1
    assert "done            mean on simulated, point 25%" in done.stdout
    assert "would run       brits on simulated, point 25%" in done.stdout
    assert done.stdout.count("  refused ") == 2
    assert done.stderr.count("mask.rate=3") == 1
    assert {path for path in (tmp_path / "results").rglob("row.json")} == before


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["experiment=nope"], ["nope", "demo", "full"]),
        (["model=oracle"], ["oracle", "psan"]),
        (["model=mean", "tiemout=3"], ["tiemout"]),
    ],
)
def test_status_of_what_cannot_be(arguments: list[str], named: list[str], tmp_path: Path) -> None:
    done = call(tmp_path, "status", *arguments)
    assert done.returncode == 2
    assert all(text in done.stderr for text in named)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("option", "named"),
    [
        ("timeout=-1", "timeout=-1 must be a number of seconds, or null"),
        ("timeout=soon", "timeout=soon"),
        ("retry_failed=-1", "retry_failed=-1 must be a whole number from 0 on"),
        ("cells_per_gpu=0", "cells_per_gpu=0"),
        ("fail_fast=maybe", "fail_fast=maybe must be true or false"),
    ],
)
def test_bad_options_are_refused(option: str, named: str, tmp_path: Path) -> None:
    done = call(tmp_path, "run", "model=mean", "dataset=simulated", "tracking=none", option)
    assert done.returncode == 1
    assert named in done.stderr
    assert not list(tmp_path.rglob("row.json"))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59.6, "1 min"), (125.0, "2 min 5 s"), (7260.0, "2 h 1 min"), (9e4, "1 d 1 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_plan_is_plain_json() -> None:
    plan = make_plan(SWEEP)
    keep_plan(plan, SWEEP)
    assert len(json.loads((plan.folder / FILE).read_text())["cells"]) == 4
