"""Claims of cells: exclusive, alive while their process is, and nobody's afterwards."""

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import psutil
import pytest

from benchmarks import claims
from benchmarks.claims import STALE_SECONDS, Claim, claimed, holder


def put(folder: Path, claim: Claim, age: float = 0.0) -> None:
    path = folder / "claim.json"
    path.write_text(json.dumps(asdict(claim)))
    os.utime(path, (time.time() - age,) * 2)


def test_a_claim_is_exclusive_and_ends_with_the_block(tmp_path: Path) -> None:
    with claimed(tmp_path) as other:
        assert other is None
        found = holder(tmp_path)
        assert found is not None
        assert found.pid == os.getpid()
        with claimed(tmp_path) as second:
            assert second == found
        assert holder(tmp_path) == found  # who did not get it does not end it
    assert holder(tmp_path) is None
    with pytest.raises(ZeroDivisionError), claimed(tmp_path):
        raise ZeroDivisionError
    assert holder(tmp_path) is None


def test_the_claim_of_a_dead_process_is_nobodys_at_once(tmp_path: Path) -> None:
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    started = psutil.Process(sleeper.pid).create_time()
    put(tmp_path, replace(Claim.own(), pid=sleeper.pid, process_started=started))
    assert holder(tmp_path) is not None
    sleeper.kill()
    while psutil.Process(sleeper.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert holder(tmp_path) is None  # nobody has taken note of its end, but ended it has
    sleeper.wait()
    assert holder(tmp_path) is None
    put(tmp_path, replace(Claim.own(), process_started=Claim.own().process_started - 60))
    assert holder(tmp_path) is None  # the number of a dead process may be another's by now
    with claimed(tmp_path) as other:
        assert other is None


def test_another_machine_is_judged_by_its_heartbeat(tmp_path: Path) -> None:
    elsewhere = replace(Claim.own(), host="elsewhere", pid=1)
    put(tmp_path, elsewhere, age=STALE_SECONDS / 2)
    with claimed(tmp_path) as other:
        assert other == elsewhere
    put(tmp_path, elsewhere, age=STALE_SECONDS + 1)
    with claimed(tmp_path) as other:
        assert other is None


def test_the_heart_beats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "HEARTBEAT_SECONDS", 0.02)
    with claimed(tmp_path):
        path = tmp_path / "claim.json"
        os.utime(path, (0, 0))
        deadline = time.monotonic() + 10
        while time.time() - path.stat().st_mtime > 5:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_a_file_that_is_no_claim_stops_nobody(tmp_path: Path) -> None:
    for content in ("", "{}", "[1]", '{"host": 3}'):
        (tmp_path / "claim.json").write_text(content)
        assert holder(tmp_path) is None
    with claimed(tmp_path) as other:
        assert other is None
