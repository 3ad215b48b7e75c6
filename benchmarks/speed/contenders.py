"""The networks that a case compares: the suite's, and a plain formulation of the same method.

Both are built from the method's YAML by the code that builds it for a run, on a network of sensors
without any traffic: its readings are random numbers, which cost as much as real ones.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import pandas as pd
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import nn

from benchmarks.batches import Batch
from benchmarks.budgets import TrainingConfig
from benchmarks.data.series import Series
from benchmarks.errors import InputError
from benchmarks.masks import MaskedSeries, point
from benchmarks.methods import Setting, build
from benchmarks.paths import conf_dir
from benchmarks.speed.cases import Case
from benchmarks.training import make_optimiser, training_loss, whiten
from benchmarks.training_process import prepare
from benchmarks.windows import split_windows

LINKS = 7
"""Links that lead from a sensor to others: METR-LA has 1515 between 207 sensors."""


def composed_model(case: Case) -> dict[str, Any]:
    """The method's YAML with the paper's values for METR-LA and the case's options.

    Raises:
        InputError: an unknown method or option, or a method that is not trained by gradients.
    """
    with initialize_config_dir(str(conf_dir().resolve()), version_base="1.3"):
        try:
            config = compose("config", [f"model={case.method}", "dataset=metr_la"])
        except Exception as error:  # hydra's message lists the choices
            raise InputError(f"method {case.method}: {error}") from error
    model: Any = OmegaConf.to_container(config.model, resolve=True)
    if model["kind"] != "gradient":
        raise InputError(
            f"method {case.method} is of kind {model['kind']}; only kind gradient is measured"
        )
    unknown = sorted(set(case.options) - set(model["network"]))
    if unknown:
        raise InputError(
            f"{', '.join(unknown)} is no option of {case.method}; choose from "
            + ", ".join(name for name in model["network"] if name != "_target_")
        )
    model["network"] |= case.options
    return dict(model)


def noise_setting(case: Case, time_features: str) -> Setting:
    """Random readings of which a quarter is hidden, and `LINKS` random links from each sensor."""
    rng = np.random.default_rng(0)
    n, steps = case.sensors, 20 * case.window + case.batch
    distances = np.full((n, n), np.inf, dtype=np.float32)
    for sensor in range(n):
        distances[sensor, rng.permutation(np.delete(np.arange(n), sensor))[:LINKS]] = 1000.0
    np.fill_diagonal(distances, 0.0)
    observed = np.ones((steps, n), dtype=bool)
    series = Series(
        name="noise",
        values=rng.normal(50, 10, (steps, n)).astype(np.float32),
        observed=observed,
        time=pd.date_range("2024-01-01", periods=steps, freq="5min"),
        sensors=tuple(str(i) for i in range(n)),
        unit="none",
        distances=distances,
        simulated=True,
    )
    masked = MaskedSeries(series, point(observed, 0, 0.25))
    split = split_windows(steps, case.window)
    return Setting(masked, split, 0, {"kind": "binary"}, time_features)


@dataclass
class Contender:
    """A network with its optimiser, ready to be timed."""

    network: nn.Module
    config: TrainingConfig
    batch: Batch

    def __post_init__(self) -> None:
        self.optimiser = make_optimiser(self.network, self.config)

    def train(self) -> None:
        """One training step, as a training of the suite makes it."""
        self.network.train()
        observed = whiten(self.batch.visible, self.config.whiten)
        x = torch.where(observed, self.batch.x, 0.0)
        loss = training_loss(
            self.network, x, observed, self.batch.time_features, self.batch.x, self.batch.visible
        )
        self.optimiser.zero_grad()
        loss.backward()
        if self.config.gradient_clip is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.config.gradient_clip)
        self.optimiser.step()

    def forward(self) -> torch.Tensor:
        """Estimates of one batch `[b t n 1]`, ready for a backward pass."""
        self.network.eval()
        out: torch.Tensor = self.network(self.batch.x, self.batch.visible, self.batch.time_features)
        return out

    def infer(self) -> None:
        """Estimates of one batch."""
        with torch.no_grad():
            self.forward()


def contender(case: Case, plain: bool) -> Contender | None:
    """The suite's network, or the plain one; None if there is no plain formulation."""
    model = composed_model(case)
    if plain:
        target = _plain_target(case.method, model["network"])
        if target is None:
            return None
        model["network"]["_target_"] = target
    setting = noise_setting(case, model["time_features"])
    config = TrainingConfig(**model["training"])
    _, windows = prepare(setting, config.scaling)
    return Contender(build(model, setting), config, windows[list(range(case.batch))])


def _plain_target(method: str, network: Mapping[str, Any]) -> str | None:
    """`plain_grin.PlainGRIN` for `baselines.grin.GRIN`, if that module can be imported."""
    module = f"plain_{method}"
    if find_spec(module) is None:
        return None
    name = f"Plain{network['_target_'].rpartition('.')[2]}"
    return f"{module}.{name}" if hasattr(import_module(module), name) else None
