"""Allocator and thread settings: that they work, and that they can be switched off."""

import os
import platform
import subprocess
import sys

import pytest

from benchmarks import process

FAULTS = """
import resource
import numpy as np
from benchmarks.process import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        np.ones(2**23)  # 64 MiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

keep_freed_memory()
faults()
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
@pytest.mark.parametrize("setting", ["", "default"])
def test_freed_memory_is_used_again_unless_switched_off(setting: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FAULTS],
        env={**os.environ, process.MALLOC: setting},
        capture_output=True,
        text=True,
        check=True,
    )
    pages = 10 * 2**26 / os.sysconf("SC_PAGE_SIZE")
    assert (int(done.stdout) < pages / 100) == (setting == "")


def test_waiting_threads_rest_unless_the_user_said_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(process.WAIT, raising=False)
    process.rest_waiting_threads()
    assert os.environ[process.WAIT] == "PASSIVE"
    monkeypatch.setenv(process.WAIT, "ACTIVE")
    process.rest_waiting_threads()
    assert os.environ[process.WAIT] == "ACTIVE"
