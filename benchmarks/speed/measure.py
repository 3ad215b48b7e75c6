"""Measures one case in a process of its own: `python -m benchmarks.speed.measure JSON`.

The contenders take turns, so that whatever else the machine does meets both, and run with the same
threads and allocator. Peak memory is taken in a further process for each, because freed memory
stays.
"""

import json
import math
import resource
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import psutil
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.machine import peak_memory_mb, reset_peak_memory
from benchmarks.process import keep_freed_memory
from benchmarks.speed.cases import Case
from benchmarks.speed.contenders import Contender, contender

MATRIX = 2048
"""Rows and columns of the matrices whose product is the machine's rate."""

MEMORY_SHARE = 0.85
"""Share of the machine's free memory that a case may take: beyond, it fails and nothing else."""


def times(case: Case, repeats: int, alone: bool) -> dict[str, dict[str, Any]]:
    """Seconds of a training step and of an inference, by contender; medians with extremes."""
    built = _contenders(case, alone)
    found: dict[str, dict[str, list[float]]] = {name: {"train": [], "infer": []} for name in built}
    for turn in range(repeats + 1):  # the first turn warms up: compiles, fills caches
        for name, each in built.items():
            for phase, run in (("train", each.train), ("infer", each.infer)):
                seconds = _seconds(run)
                if turn:
                    found[name][phase].append(seconds)
    # of the suite's own, the compiled loops would not be counted
    forward = _flops(built["plain"].forward) if "plain" in built else math.nan
    flops = {"train": 3 * forward, "infer": forward}  # a backward pass is two products for each
    rate = matrix_rate()
    rows: dict[str, dict[str, Any]] = {}
    for name, phases in found.items():
        rows[name] = {"matmul_gflops": round(rate, 1)}
        for phase, all_seconds in phases.items():
            median = statistics.median(all_seconds)
            rows[name] |= {
                f"{phase}_seconds": median,
                f"{phase}_fastest": min(all_seconds),
                f"{phase}_slowest": max(all_seconds),
                f"{phase}_gflop": flops[phase] / 1e9,
                f"{phase}_gflops": flops[phase] / 1e9 / median,
            }
    return rows


def peak(case: Case, name: str) -> float:
    """Memory in MiB that two training steps of a contender take beyond what is there before."""
    small = Case(case.method, 1, 8, case.window, case.options)
    first = contender(small, plain=False)
    assert first is not None
    first.train()  # imports and compiles
    before = psutil.Process().memory_info().rss / 2**20
    reset_peak_memory()
    chosen = contender(case, plain=name != "suite")
    assert chosen is not None
    for _ in range(2):
        chosen.train()
    return round(peak_memory_mb(on_gpu=False) - before, 1)


def matrix_rate(repeats: int = 7) -> float:
    """GFLOP/s of a product of two square matrices, the best of some."""
    a, b = torch.rand(2, MATRIX, MATRIX)
    return 2 * MATRIX**3 / min(_seconds(lambda: a @ b) for _ in range(repeats)) / 1e9


def _contenders(case: Case, alone: bool) -> dict[str, Contender]:
    suite = contender(case, plain=False)
    assert suite is not None
    plain = None if alone else contender(case, plain=True)
    if plain is None:
        return {"suite": suite}
    return {"suite": suite, "plain": plain}


def _seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _flops(run: Callable[[], object]) -> int:
    """Floating-point operations of matrix products and convolutions."""
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


def main() -> None:
    """Reads what to measure from the only argument, writes JSON to standard output."""
    asked = json.loads(sys.argv[1])
    limit = round(MEMORY_SHARE * psutil.virtual_memory().available)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    keep_freed_memory()
    if asked["threads"]:
        torch.set_num_threads(asked["threads"])
    case = Case(**asked["case"])
    result: Any = {"threads": torch.get_num_threads()}
    if asked["memory_of"]:
        result["peak_memory_mb"] = peak(case, asked["memory_of"])
    else:
        result["times"] = times(case, asked["repeats"], asked["alone"])
    sys.stdout.write(json.dumps(result))  # NaN as Python writes and reads it


if __name__ == "__main__":
    main()
