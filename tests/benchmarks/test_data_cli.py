"""`python -m benchmarks.data` as a user runs it: output, exit codes, start-up."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*arguments: str, data_root: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "PSAN_DATA"}
    if data_root is not None:
        environment["PSAN_DATA"] = str(data_root)
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.data", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_list(data_root: Path) -> None:
    result = run("list", data_root=data_root)
    lines = {line.split()[0]: line for line in result.stdout.splitlines() if line}
    assert result.returncode == 0
    assert "34272 x 207" in lines["metr_la"]
    assert "2012-03-01 00:00 - 2012-06-27 23:55" in lines["metr_la"]
    assert "missing  present" in lines["metr_la_week"]
    assert "vehicles / 5 min" in lines["pems04_58h"]
    assert str(data_root) in result.stdout


def test_list_says_which_role_is_missing(tmp_path: Path) -> None:
    (tmp_path / "pems04").mkdir()
    (tmp_path / "pems04" / "PEMS04.npz").touch()
    result = run("list", "--data-root", str(tmp_path))
    assert "missing: distances" in result.stdout


def test_verify(data_root: Path) -> None:
    result = run("verify", "metr_la_week", data_root=data_root)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("ok  ") == 6
    assert result.stdout.endswith("metr_la_week: verified\n")


def test_verify_of_a_fake(data_root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pems08_25d"
    folder.mkdir()
    for path in (data_root / "pems08_25d").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    roads = folder / "PEMS08.csv"
    roads.write_text("\n".join(roads.read_text().splitlines()[:101]))
    result = run("verify", "pems08_25d", "--data-root", str(tmp_path))
    assert result.returncode == 1
    assert "FAILED  road links: found 100, expected 277" in result.stdout
    assert result.stdout.endswith("pems08_25d: NOT verified\n")


def test_verify_without_files(tmp_path: Path) -> None:
    result = run("verify", "metr_la", data_root=tmp_path)
    assert result.returncode == 1
    assert "METR-LA.csv or METR-LA.csv.gz or metr-la.h5" in result.stdout
    assert not result.stderr


@pytest.mark.parametrize("command", ["verify", "fetch"])
def test_unknown_name(command: str) -> None:
    result = run(command, "metrla")
    assert result.returncode == 2
    assert result.stderr.startswith("error: unknown dataset 'metrla': choose from metr_la, ")
    assert result.stderr.count("\n") == 1


def test_wrong_usage() -> None:
    assert run().returncode == 2
    assert run("download").returncode == 2
    assert "list" in run("--help").stdout


def test_a_slice_cannot_be_fetched(tmp_path: Path) -> None:
    result = run("fetch", "metr_la_81", data_root=tmp_path)
    assert result.returncode == 1
    assert "metr_la_81 is a slice of metr_la and has no public address" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "absent"),
    [
        (["list"], ["torch", "hydra", "mlflow", "pandas", "tables", "pooch"]),
        (["verify", "pems04"], ["torch", "hydra", "mlflow", "tables", "pooch"]),
    ],
)
def test_start_up_is_light(tmp_path: Path, arguments: list[str], absent: list[str]) -> None:
    code = (
        "import sys; from benchmarks.data.__main__ import main; "
        f"main({[*arguments, '--data-root', str(tmp_path)]!r}); "
        f"print([name for name in {absent!r} if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines()[-1] == "[]"
