"""Leases of GPUs: by lock files, so that a machine without a GPU can test them."""

import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from benchmarks import gpus
from benchmarks.errors import InputError
from benchmarks.gpus import lease, may_have_gpu, visible_gpus


@pytest.fixture(autouse=True)
def three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three GPUs by name, and lock files of this test alone."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, GPU-b,6")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(gpus, "POLL_SECONDS", 0.01)


def test_cells_get_gpus_of_their_own() -> None:
    assert visible_gpus() == ["4", "GPU-b", "6"]
    with lease(1, 1) as one, lease(2, 1) as two:
        assert sorted([*one, *two]) == ["4", "6", "GPU-b"]
    with lease(1, 1, preferred=["6"]) as again:
        assert again == ["6"]


def test_several_cells_share_a_gpu_only_when_each_has_one() -> None:
    with lease(1, 2) as a, lease(1, 2) as b, lease(1, 2) as c:
        assert len({*a, *b, *c}) == 3
        with lease(1, 2) as d, lease(2, 2) as e:
            assert sorted([*d, *e]) == sorted([*a, *b, *c])


def test_a_cell_waits_until_enough_are_free() -> None:
    waits = Event()

    def wait_for_two() -> list[str]:
        waits.set()
        with lease(2, 1) as leased:
            return leased

    with ThreadPoolExecutor(1) as pool:
        with lease(2, 1) as held:
            found = pool.submit(wait_for_two)
            waits.wait()
            with pytest.raises(TimeoutError):
                found.result(timeout=0.2)
        assert len(found.result(timeout=10)) == len(held)


def test_the_lease_of_a_dead_process_ends() -> None:
    hold = (
        "import os; from benchmarks.gpus import lease\n"
        "with lease(3, 1): print('held', flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", hold], capture_output=True, text=True, check=False)
    assert done.stdout == "held\n"
    with lease(3, 1) as leased:
        assert len(leased) == 3


def test_more_than_there_are_is_refused() -> None:
    with pytest.raises(InputError, match=r"devices=4.*4, GPU-b, 6"), lease(4, 1):
        pass


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_hidden_gpus_are_none(hidden: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert visible_gpus() == []
    assert not may_have_gpu()
