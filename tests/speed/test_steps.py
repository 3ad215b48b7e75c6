"""Time of a training step and of an inference of every gradient method.

An ordinary test run executes each once, at a tiny size. For timings:
`python -m pytest tests/speed --benchmark-enable`, and `SPEED_SENSORS=207 SPEED_BATCH=8` for the
size of METR-LA.
"""

import os

import pytest
from small_series import MODELS, model_config

from benchmarks.process import keep_freed_memory
from benchmarks.speed.cases import Case
from benchmarks.speed.contenders import contender

SENSORS = int(os.environ.get("SPEED_SENSORS", "9"))
BATCH = int(os.environ.get("SPEED_BATCH", "1"))
GRADIENT = [name for name in MODELS if model_config(name)["kind"] == "gradient"]


@pytest.mark.parametrize("formulation", ["suite", "plain"])
@pytest.mark.parametrize("phase", ["train", "infer"])
@pytest.mark.parametrize("method", GRADIENT)
def test_step(benchmark, method: str, phase: str, formulation: str) -> None:
    keep_freed_memory()
    case = Case(method, BATCH, SENSORS, window=24)
    chosen = contender(case, plain=formulation == "plain")
    if chosen is None:
        pytest.skip(f"{method} has no plain formulation")
    benchmark.group = f"{method}, {phase}"
    benchmark(getattr(chosen, phase))
    assert all(p.isfinite().all() for p in chosen.network.parameters())
    assert chosen.forward().isfinite().all()
