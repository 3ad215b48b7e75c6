"""Runs and sweeps in real sub-processes: rows, skipping, failures, bad input."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import call

from benchmarks.masks import mask_hash
from benchmarks.masks.saved import mask_path, read_mask
from benchmarks.rows import COLUMNS

SMALL = ("dataset=simulated", "trainer=smoke", "trainer.batch_size=2", "tracking=none")


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A sweep in which one cell cannot run: its folder and what it printed."""
    folder = tmp_path_factory.mktemp("sweep")
    broken = "model.network.n_heads=4,5"  # 5 heads do not divide the width
    done = call(
        folder, "run", "-m", "model=psan", broken, "mask.rate=0.5", "save_predictions=true", *SMALL
    )
    assert done.returncode == 3, done.stderr
    return folder, done.stderr


def test_a_failed_cell_is_recorded_and_stops_no_other(sweep: tuple[Path, str]) -> None:
    folder, printed = sweep
    table = pd.read_csv(folder / "results/default/runs.csv")
    assert list(table.columns) == list(COLUMNS)
    assert sorted(table["status"]) == ["done", "failed"]
    failed = table[table["status"] == "failed"].iloc[0]
    assert "n_heads=5" in failed["reason"]
    assert "n_heads=5" in printed
    done = table[table["status"] == "done"].iloc[0]
    assert done["rate_total"] == pytest.approx(done["rate_native"] + done["rate_hidden"])
    assert done["simulated"]
    assert done["n_params"] > 0
    assert np.isfinite([done["window_mae"], done["step_mae"], done["val_mae"]]).all()


def test_saved_predictions_give_the_recorded_score(sweep: tuple[Path, str]) -> None:
    folder, _ = sweep
    table = pd.read_csv(folder / "results/default/runs.csv")
    row = table[table["status"] == "done"].iloc[0]
    with np.load(folder / f"results/default/cells/{row['key']}/predictions.npz") as saved:
        held_out, visible = saved["held_out"], saved["visible"]
        error = np.abs(saved["imputed"].astype("f8") - saved["truth"])[held_out].mean()
        assert error == pytest.approx(row["step_mae"], rel=1e-6)
        assert not (held_out & visible).any()
        np.testing.assert_array_equal(saved["imputed"][visible], saved["truth"][visible])
        assert len(saved["time"]) == len(held_out)
        assert held_out.sum() == row["scored_entries"]


def test_methods_share_a_saved_mask_and_their_errors_are_broken_down(tmp_path: Path) -> None:
    """Two masks for two methods: every pair of rows names the same mask, and its file holds it."""
    arguments = ("mask=spatial_block", "mask.rate=0.3", "mask_seed=1,2", "model=mean,linear")
    done = call(tmp_path, "run", "-m", *arguments, *SMALL)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "results/default"
    table = pd.read_csv(folder / "runs.csv", dtype={"mask_hash": str, "dataset_fingerprint": str})
    assert set(table["protocol"]) == {"calibrated"}
    hashes = table.groupby("mask_seed")["mask_hash"].unique()
    assert [len(found) for found in hashes] == [1, 1]
    assert hashes[1] != hashes[2]
    for row in table.itertuples():
        path = mask_path(folder, "simulated", row.dataset_fingerprint, row.mask_hash)
        mask = read_mask(path)
        assert mask_hash(mask.drawn) == row.mask_hash
        assert mask.drawn.sum() / mask.observed.sum() == pytest.approx(0.3, abs=0.005)
        assert mask.drawn.mean() == pytest.approx(row.rate_hidden, abs=1e-9)
        scores = pd.read_csv(folder / f"cells/{row.key}/scores.csv")
        assert set(scores["by"]) == {"gap_length", "distance", "hour", "sensor", "congestion"}
        sensors = scores[scores["by"] == "sensor"]
        mae = np.average(sensors["step_mae"], weights=sensors["entries"])
        assert mae == pytest.approx(row.step_mae, rel=1e-4)


def test_a_finished_cell_is_skipped_and_a_failed_one_tried_again(sweep: tuple[Path, str]) -> None:
    folder, _ = sweep
    rows = {
        path: json.loads(path.read_text()) for path in folder.glob("results/default/cells/*/*.json")
    }
    again = call(
        folder, "run", "-m", "model.network.n_heads=5,4", "mask.rate=0.5", "model=psan", *SMALL
    )
    assert again.returncode == 3
    assert "1 of 2 cells done before" in again.stderr
    for path, row in rows.items():
        now = json.loads(path.read_text())
        assert now == row or row["status"] == "failed"


BAD = {
    "unknown dataset": (["dataset=metr_sf"], ["metr_sf", "pems_bay", "simulated"]),
    "unknown model": (["model=oracle"], ["oracle", "psan", "linear"]),
    "unknown option": (["model.network.n_layer=2"], ["n_layer"]),
    "unknown experiment": (["-m", "experiment=everything"], ["everything", "demo", "full"]),
    "sweep without -m": (["experiment=demo"], ["-m"]),
    "missing files": (
        ["dataset=metr_la", "data_root=nowhere", "tracking=none"],
        ["nowhere", "METR-LA.csv", "benchmarks.data fetch metr_la", "PSAN_DATA"],
    ),
    "rate of 1": ([*SMALL, "mask.rate=1.0"], ["mask.rate=1.0", "between 0 and 1"]),
    "rate of 0": ([*SMALL, "mask.rate=0"], ["mask.rate=0", "between 0 and 1"]),
    "rate in percent": ([*SMALL, "mask.rate=25"], ["mask.rate=25", "between 0 and 1"]),
    "rate of a block": ([*SMALL, "mask=block", "mask.rate=0.5"], ["mask=block", "p_fault=0.0015"]),
    "rate of nothing": (
        [*SMALL, "mask=block", "protocol=calibrated"],
        ["mask.rate=None", "between 0 and 1"],
    ),
    "protocol of a mask": (
        [*SMALL, "mask=mnar", "protocol=grin"],
        ["protocol=grin", "mask=mnar", "choose from calibrated"],
    ),
    "rate that faults cannot meet": (
        [*SMALL, "model=mean", "mask=blackout", "mask.rate=0.99"],
        ["mask.rate=0.99", "12 to 47", "nearest"],
    ),
    "unbalanced bracket": (["-m", "model=[psan"], ["[psan"]),
    "unknown precision": ([*SMALL, "trainer.precision=fp8"], ["fp8", "bf16-mixed"]),
    "no epochs": ([*SMALL, "trainer.max_epochs=0"], ["trainer.max_epochs=0"]),
    "no whitening": ([*SMALL, "model.training.whiten=[1.5]"], ["1.5", "whiten"]),
    "unknown tracking": ([*SMALL, "tracking.kind=wandb"], ["wandb", "mlflow, none"]),
    "unwritable results": ([*SMALL, "results_dir=file/results"], ["results_dir=file/results"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_screen(case: str, tmp_path: Path) -> None:
    arguments, named = BAD[case]
    (tmp_path / "file").write_text("in the way")
    done = call(tmp_path, "run", *arguments)
    assert done.returncode != 0
    for text in named:
        assert text in done.stderr + done.stdout, done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) < 40


def test_a_csv_with_text_in_it_is_refused_by_line(tmp_path: Path) -> None:
    folder = tmp_path / "data/metr_la"
    folder.mkdir(parents=True)
    (folder / "METR-LA.csv").write_text(
        ",773869,767541\n2012-03-01 00:00:00,64.4,67.6\n2012-03-01 00:05:00,sixty,68.0\n"
    )
    done = call(tmp_path, "run", "dataset=metr_la", "data_root=data", "tracking=none", "model=mean")
    assert done.returncode == 3
    assert "sixty" in done.stderr
    assert "line 3" in done.stderr
    assert "Traceback" not in done.stderr


def test_wrong_shape_and_silent_sensor_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "data/pems08_25d"
    folder.mkdir(parents=True)
    np.savez(folder / "PEMS08.npz", data=np.ones((100, 12, 1)))
    (folder / "PEMS08.csv").write_text("from,to,cost\n0,1,100\n")
    run = ("run", "dataset=pems08_25d", "data_root=data", "tracking=none", "model=mean")
    done = call(tmp_path, *run)
    assert done.returncode == 3
    assert "170" in done.stderr
    assert "Traceback" not in done.stderr
    values = np.ones((100, 170, 1))
    values[:, 5] = 0
    np.savez(folder / "PEMS08.npz", data=values)
    done = call(tmp_path, *run)
    assert done.returncode == 3
    assert "sensor" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_demo_sweep_small(tmp_path: Path) -> None:
    short = ("trainer.max_epochs=1", "trainer.batches_per_epoch=2", "trainer.validation_stride=96")
    where = ("tracking=none", "mask.rate=0.5", "model=mean,linear,brits,psan")
    done = call(tmp_path, "run", "-m", "experiment=demo", *where, *short)
    assert done.returncode == 0, done.stderr
    assert "[4/4]" in done.stderr
    report = call(tmp_path, "report", "experiment=demo")
    assert report.returncode == 0, report.stderr
    text = (tmp_path / "results/demo/report.md").read_text()
    assert "imulated" in text
    for label in ("Mean", "Linear interpolation", "BRITS", "PSAN"):
        assert label in text
    assert (tmp_path / "results/demo/figures/rate_curve.png").exists()
