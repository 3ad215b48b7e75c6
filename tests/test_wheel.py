"""A built wheel works on its own: configuration, template and simulated data travel with it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import environment

PROJECT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the wheel, without its dependencies, was installed."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run([*pip, *build, str(PROJECT)], check=True, capture_output=True, timeout=200)
    (wheel,) = folder.glob("*.whl")
    target = folder / "site"
    install = ["install", "--no-deps", "--target", str(target), str(wheel)]
    subprocess.run([*pip, *install], check=True, capture_output=True, timeout=200)
    return target


def test_a_run_and_its_report_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    variables = environment() | {"PYTHONPATH": str(installed)}

    def call(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=variables, capture_output=True,
            text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = call("-c", "import benchmarks; print(benchmarks.__file__)").strip()
    assert Path(where).is_relative_to(installed)
    call("-m", "benchmarks.run", "model=linear", "dataset=simulated", "tracking=none")
    call("-m", "benchmarks.report", "experiment=default", "figures=none")
    assert "Linear interpolation" in (tmp_path / "results/default/report.md").read_text()
    assert not os.path.exists(tmp_path / "conf")
