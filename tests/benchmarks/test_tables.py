"""Reading of results and the numbers in the report's tables, on rows made by hand."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import tables
from benchmarks.errors import InputError
from benchmarks.results import Results, mean_ranks, read_results
from benchmarks.rows import assemble, write_row

NUMBER = iter(range(10**6))


def row(model: str, mae: float | None, **changes: object) -> dict[str, object]:
    key = f"{next(NUMBER):016x}"
    filled = {
        "key": key, "status": "done", "reason": "", "model": model, "label": model.upper(),
        "dataset": "roads", "title": "Slice of ROADS", "simulated": False, "unit": "mph",
        "pattern": "point", "rate": 0.25, "protocol": "grin", "window": 24, "mask_seed": 1,
        "seed": 42, "budget": "2 epochs x 3 batches of 4", "mask_hash": "m",
        "dataset_fingerprint": "d", "window_mae": mae, "step_mae": mae, "finished": key,
    }  # fmt: skip
    return filled | changes


def results(folder: Path, *rows: dict[str, object]) -> Results:
    for one in rows:
        write_row(folder, one)
    assemble(folder)
    return read_results(folder)


def edit(folder: Path, old: str, new: str) -> None:
    path = folder / "runs.csv"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_mean_rank_is_the_mean_of_the_places_and_gaps_come_last() -> None:
    table = pd.DataFrame(
        {"a": [1.0, 2.0, 3.0], "b": [2.0, 1.0, 3.0], "c": [2.0, 1.0, np.nan]}, list("xyz")
    )
    ranks = mean_ranks(table)
    assert list(ranks.index) == ["y", "x", "z"]
    assert ranks["rank"].to_dict() == pytest.approx({"x": 5 / 3, "y": 4 / 3, "z": 3.0})
    best_but_absent = pd.DataFrame({"a": [1.0, 2.0], "b": [np.nan, 2.0]}, list("xy"))
    assert list(mean_ranks(best_but_absent).index) == ["y", "x"]


def test_a_run_is_compared_with_linear_interpolation_under_its_own_mask(tmp_path: Path) -> None:
    found = results(
        tmp_path,
        row("linear", 2.0, mask_seed=1, seed=None),
        row("linear", 4.0, mask_seed=2, seed=None),
        row("psan", 1.0, mask_seed=1),
        row("psan", 3.0, mask_seed=2),
        row("psan", 9.0, mask_seed=3),
    )
    relative = tables.against_reference(found.done)
    of_psan = relative.loc[relative["model"] == "psan", "relative"]
    assert sorted(of_psan) == pytest.approx([-0.5, -0.25])


def test_the_newest_of_two_configurations_counts_and_the_other_is_listed(tmp_path: Path) -> None:
    old = row("psan", 1.0, finished="2026-01-01", budget="1 epochs")
    new = row("psan", 2.0, finished="2026-01-02", budget="9 epochs")
    found = results(tmp_path, old, new, row("psan", 3.0, seed=43))
    assert sorted(found.done["window_mae"]) == [2.0, 3.0]
    assert list(found.replaced["key"]) == [old["key"]]


def test_rows_without_a_score_are_problems(tmp_path: Path) -> None:
    failed = row("grin", None, status="failed", reason="loss is NaN", window_mae=None)
    infinite = row("brits", None)
    found = results(tmp_path, failed, infinite, row("psan", 1.0))
    assert set(found.problems["key"]) == {failed["key"], infinite["key"]}
    assert list(found.labels) == ["psan", *sorted(set(found.labels) - {"psan"})]


def test_missing_cells_are_what_the_other_methods_have(tmp_path: Path) -> None:
    found = results(
        tmp_path,
        row("psan", 1.0),
        row("psan", 1.0, seed=43),
        row("psan", 1.0, rate=0.5),
        row("grin", 1.0),
        row("mean", 1.0, seed=None),
    )
    lacking = tables.missing(found).fillna({"seed": -1})
    assert set(lacking[["model", "setting", "seed"]].itertuples(index=False, name=None)) == {
        ("psan", "point 50 %", 43),
        ("grin", "point 25 %", 43),
        ("grin", "point 50 %", 42),
        ("grin", "point 50 %", 43),
        ("mean", "point 50 %", -1),
    }


def test_settings_name_the_window_only_where_it_varies(tmp_path: Path) -> None:
    found = results(tmp_path, row("psan", 1.0), row("psan", 1.0, pattern="block", rate=None))
    assert tables.settings_of(found.done) == ["block", "point 25 %"]
    found = results(tmp_path, row("psan", 1.0, window=12))
    assert "point 25 %, window 12" in tables.settings_of(found.done)


def test_rows_that_cannot_be_compared_are_named(tmp_path: Path) -> None:
    found = results(
        tmp_path, row("psan", 1.0), row("grin", 1.0, mask_hash="n", dataset_fingerprint="e")
    )
    write_row(tmp_path, row("brits", 1.0))
    data, mask, new = tables.conflicts(found)
    assert "roads was not the same data in all runs: d, e" in data
    assert "roads, point 25 %, mask seed 1" in mask
    assert "1 cells" in new


def test_simulated_data_are_called_so(tmp_path: Path) -> None:
    found = results(
        tmp_path,
        row("psan", 1.0, simulated=True, title="Two freeways"),
        row("psan", 1.0, dataset="b", simulated=True, title="Simulated freeways"),
    )
    assert found.captions == {"roads": "Simulated: Two freeways", "b": "Simulated freeways"}


def test_runs_csv_is_made_from_the_cells_where_it_is_absent(tmp_path: Path) -> None:
    write_row(tmp_path, row("psan", 1.0))
    assert len(read_results(tmp_path).done) == 1
    assert (tmp_path / "runs.csv").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",done,", ",finished,", "status 'finished' is unknown; choose from done"),
        (",0.25,", ",1.25,", "rate=1.25 is out of range"),
        (",0.25,", ",often,", "rate='often' is no number"),
        (",0.25,", ",inf,", "rate='inf' is no number"),
        (",psan,", ",,", "model is empty"),
        (",grin,24,", ",grin\n", "has 13 fields instead of"),
        ("key,status", "key,state", "has not the columns of benchmarks.rows: state, status"),
    ],
)
def test_a_malformed_row_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    results(tmp_path, row("psan", 1.0))
    edit(tmp_path, old, new)
    with pytest.raises(InputError, match=r"runs\.csv") as caught:
        read_results(tmp_path)
    assert message in str(caught.value)


def test_a_row_with_too_many_fields_is_refused(tmp_path: Path) -> None:
    results(tmp_path, row("psan", 1.0))
    path = tmp_path / "runs.csv"
    path.write_text(path.read_text().rstrip("\n") + ",more\n")
    with pytest.raises(InputError, match=r"runs\.csv"):
        read_results(tmp_path)


def test_a_row_that_stands_there_twice_is_named(tmp_path: Path) -> None:
    key = results(tmp_path, row("psan", 1.0)).done["key"].iloc[0]
    path = tmp_path / "runs.csv"
    path.write_text(path.read_text() + path.read_text().splitlines()[1] + "\n")
    with pytest.raises(InputError, match=f"key {key} stands in rows 1 and 2"):
        read_results(tmp_path)
