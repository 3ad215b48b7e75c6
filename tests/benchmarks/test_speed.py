"""`python -m benchmarks.speed`, with real measurements at tiny sizes."""

from pathlib import Path

import pandas as pd
import pytest

from benchmarks.errors import InputError
from benchmarks.paths import conf_dir
from benchmarks.speed import rows as speed_rows
from benchmarks.speed.__main__ import main, parse
from benchmarks.speed.cases import Case, read_cases
from benchmarks.speed.contenders import composed_model

TINY = """\
reference: {batch: 1, sensors: 9, window: 8}
methods:
  psan: [{d_model: 8}, {sensors: 12, d_model: 8}]
  rgain: [{}]
"""


def command(folder: Path, *words: str) -> int:
    (folder / "cases.yaml").write_text(TINY)
    given = [f"cases={folder / 'cases.yaml'}", f"results_dir={folder}", "repeats=1", "threads=1"]
    with pytest.raises(SystemExit) as stopped:
        main([*given, *words])
    return int(stopped.value.code or 0)


def test_measures_writes_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(tmp_path, "methods=psan") == 0
    table = pd.read_csv(tmp_path / "speed" / "speed.csv")
    assert (table["status"] == "done").all()
    contenders = table.groupby("case")["contender"].agg(set)
    assert contenders.tolist() == [{"suite", "plain"}] * 2
    assert (
        (table[["train_seconds", "infer_seconds", "train_gflop", "matmul_gflops"]] > 0)
        .to_numpy()
        .all()
    )
    assert table["peak_memory_mb"].notna().all()
    report = (tmp_path / "speed" / "report.md").read_text()
    assert "psan, batch 1, 12 sensors, 8 steps, d_model=8" in report
    assert (tmp_path / "speed" / "figures" / "cost_against_sensors.png").stat().st_size > 1000

    capsys.readouterr()
    assert command(tmp_path) == 0  # only what is missing
    assert capsys.readouterr().err == "[3/3] rgain, batch 1, 9 sensors, 8 steps\n"
    both = pd.read_csv(tmp_path / "speed" / "speed.csv")
    pd.testing.assert_frame_equal(both[both["method"] == "psan"], table, check_dtype=False)
    assert both[both["method"] == "rgain"]["contender"].tolist() == ["suite"]

    before = (tmp_path / "speed" / "report.md").read_bytes()
    assert command(tmp_path, "again=none") == 0
    assert (tmp_path / "speed" / "report.md").read_bytes() == before


def test_a_plain_formulation_that_does_not_fit_becomes_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = speed_rows._in_own_process

    def without_memory(asked):
        lost = {"status": "out_of_memory", "reason": "not enough memory"}
        return whole(asked) if asked.get("alone") or asked["memory_of"] == "suite" else lost

    monkeypatch.setattr(speed_rows, "_in_own_process", without_memory)
    assert command(tmp_path, "methods=psan") == 0
    table = pd.read_csv(tmp_path / "speed" / "speed.csv")
    assert set(table["contender"]) == {"suite", "plain"}
    assert (
        "plain: out_of_memory: not enough memory" in (tmp_path / "speed" / "report.md").read_text()
    )


def test_a_case_that_cannot_run_is_reported(tmp_path: Path) -> None:
    (row,) = speed_rows.measure_case(Case("psan", 1, 9, 8, {"n_heads": 5}), 1, 1)
    assert row["status"] == "failed"
    assert "d_model=64" in row["reason"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["repeats=0"], "repeats=0 must be a whole number above 0"),
        (["repeats=two"], "repeats=two"),
        (["again=maybe"], "choose from true, none"),
        (["speed=1"], "give key=value with methods"),
        (["methods="], "give methods=VALUE"),
    ],
)
def test_bad_options(words: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse(words)


def test_bad_input_exits_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(tmp_path, "methods=psam") == 2
    assert capsys.readouterr().err == "error: methods=psam not among the cases: psan, rgain\n"


@pytest.mark.parametrize(
    "text", ["", "reference: {batch: 1}", "methods: {psan: 3}\nreference: {}", "a: [", "- 1"]
)
def test_a_damaged_file_of_cases(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(InputError, match=r"c\.yaml is not laid out"):
        read_cases(tmp_path / "c.yaml")
    with pytest.raises(InputError, match="cannot be read"):
        read_cases(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("case", "message"),
    [
        (Case("grim", 1, 9, 8), "grim"),
        (Case("linear", 1, 9, 8), "only kind gradient"),
        (Case("psan", 1, 9, 8, {"depth": 2}), "depth is no option of psan; choose from n_proto"),
    ],
)
def test_unknown_methods_and_options(case: Case, message: str) -> None:
    with pytest.raises(InputError, match=message):
        composed_model(case)


def test_sizes_must_be_whole_numbers() -> None:
    with pytest.raises(InputError, match="batch=0 of psan"):
        Case("psan", 0, 9, 8)


def test_the_committed_file_names_existing_methods_once() -> None:
    cases = read_cases(conf_dir() / "speed.yaml")
    assert len({case.name for case in cases}) == len(cases)
    for case in cases:
        assert composed_model(case)["kind"] == "gradient"
