"""Every `conf/model/*.yaml`: contract, determinism, gradients, leakage, citation."""

import dataclasses
import importlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_series import (
    GRAPH,
    MODELS,
    SENSORS,
    WINDOW,
    model_config,
    poisoned,
    small_series,
    small_setting,
)

from benchmarks.batches import Batch
from benchmarks.budgets import TrainerConfig, TrainingConfig, WindowedTraining
from benchmarks.closed_form import impute
from benchmarks.errors import InputError
from benchmarks.fit import Fitted, fit
from benchmarks.masks import MaskedSeries
from benchmarks.methods import NEEDS, NeedNotMetError, Setting, build
from benchmarks.training import training_loss, whiten
from benchmarks.training_process import prepare

YEAR = r"\b(19|20)\d\d\b"

CONFIGS = {name: model_config(name) for name in MODELS}
GRADIENT = [name for name, config in CONFIGS.items() if config["kind"] == "gradient"]
CLOSED_FORM = [name for name, config in CONFIGS.items() if config["kind"] == "closed_form"]


def method(name: str, setting: Setting | None = None) -> Any:
    config = CONFIGS[name]
    return build(config, setting or small_setting(time_features=config["time_features"]))


def batch(name: str, size: int = 2) -> Batch:
    setting = small_setting(time_features=CONFIGS[name]["time_features"])
    _, windows = prepare(setting, "global")
    return windows[list(range(size))]


@pytest.mark.parametrize("name", MODELS)
def test_configuration_is_complete(name: str) -> None:
    config = CONFIGS[name]
    assert config["name"] == name.replace("/", "_")
    assert set(config["needs"]) <= set(NEEDS)
    assert isinstance(config["deterministic"], bool)
    assert isinstance(config["in_sample"], bool)
    assert re.search(YEAR, config["citation"])
    if config["kind"] == "gradient":
        TrainingConfig(**config["training"])
    if config["kind"] == "windowed":
        WindowedTraining(**config["training"])
    module = importlib.import_module(config["network"]["_target_"].rpartition(".")[0])
    target = getattr(module, config["network"]["_target_"].rpartition(".")[2])
    documentation = importlib.import_module(target.__module__).__doc__ or ""
    assert re.search(YEAR, documentation), "the module does not open with its citation"


@pytest.mark.parametrize("name", GRADIENT)
def test_output_has_a_finite_value_for_every_entry(name: str) -> None:
    network, windows = method(name).eval(), batch(name)
    output = network(windows.x, windows.visible, windows.time_features)
    assert output.shape == (2, WINDOW, SENSORS, 1)
    assert torch.isfinite(output).all()


@pytest.mark.parametrize("name", GRADIENT)
def test_evaluation_is_deterministic_and_survives_saving(name: str, tmp_path: Path) -> None:
    network, windows = method(name).eval(), batch(name)
    arguments = (windows.x, windows.visible, windows.time_features)
    first = network(*arguments)
    torch.testing.assert_close(network(*arguments), first, rtol=0, atol=0)
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    setting = small_setting(time_features=CONFIGS[name]["time_features"])
    other = build(CONFIGS[name], dataclasses.replace(setting, seed=1)).eval()
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    torch.testing.assert_close(other(*arguments), first, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", GRADIENT)
def test_gradients_reach_every_parameter(name: str) -> None:
    network, windows = method(name).train(), batch(name, size=4)
    torch.manual_seed(0)
    observed = whiten(windows.visible, [0.5])
    x = torch.where(observed, windows.x, 0.0)
    loss = training_loss(network, x, observed, windows.time_features, windows.x, windows.visible)
    loss.backward()
    without = {n for n, p in network.named_parameters() if p.requires_grad and p.grad is None}
    unused = set(getattr(network, "UNUSED_PARAMETERS", ()))
    assert {n for n in without if not any(n.endswith(u) for u in unused)} == set()


@pytest.mark.parametrize("name", GRADIENT)
@pytest.mark.parametrize("poison", [float("nan"), 1e9, -1e9])
def test_unobserved_entries_never_reach_output_or_loss(name: str, poison: float) -> None:
    network, windows = method(name).eval(), batch(name)
    observed = windows.visible & (torch.rand(windows.visible.shape) < 0.7)
    x = torch.where(observed, windows.x, poison)
    target = torch.where(windows.visible, windows.x, poison)
    clean_x = torch.where(observed, windows.x, 0.0)
    clean = network(clean_x, observed, windows.time_features)
    torch.testing.assert_close(network(x, observed, windows.time_features), clean, rtol=0, atol=0)
    losses = []
    for inputs, labels in ((x, target), (clean_x, windows.x)):
        torch.manual_seed(3)
        losses.append(
            training_loss(network, inputs, observed, windows.time_features, labels, windows.visible)
        )
    torch.testing.assert_close(losses[0], losses[1], rtol=0, atol=0)


def train(name: str, setting: Setting, folder: Path) -> tuple[Fitted, list[dict[str, float]]]:
    config = CONFIGS[name]
    trainer = TrainerConfig(
        max_epochs=2, batches_per_epoch=2, batch_size=None, validation_stride=5,
        eval_batch_size=16, precision="32-true", accelerator="cpu", threads=1, progress=False,
    )  # fmt: skip
    lines: list[Any] = []
    training = TrainingConfig(**{**config["training"], "batch_size": 4})
    network = build(config, setting)
    return fit(network, training, setting, trainer, folder, lines.append), lines


@pytest.mark.parametrize("name", GRADIENT)
def test_training_never_sees_a_held_out_value(name: str, tmp_path: Path) -> None:
    """Early stopping reads validation errors, as published; nothing else reads a hidden value."""
    setting = small_setting(time_features=CONFIGS[name]["time_features"])
    split = setting.split
    clean, lines = train(name, setting, tmp_path / "clean")
    last = torch.load(tmp_path / "clean/last.ckpt", weights_only=True)["state_dict"]
    before_validation = slice(0, split.validation[0])
    from_test = slice(split.test[0], None)
    for i, poison in enumerate((1e6, float("nan"))):
        spoilt = poisoned(setting, poison, before_validation)
        spoilt = poisoned(spoilt, poison, from_test)
        got, got_lines = train(name, spoilt, tmp_path / f"test{i}")
        assert [line["loss"] for line in got_lines] == [line["loss"] for line in lines]
        assert [line["val_mae"] for line in got_lines] == [line["val_mae"] for line in lines]
        np.testing.assert_array_equal(got.filled, clean.filled)

        everywhere = poisoned(setting, 1e6, slice(None))
        _, got_lines = train(name, everywhere, tmp_path / f"all{i}")
        assert [line["loss"] for line in got_lines] == [line["loss"] for line in lines]
        weights = torch.load(tmp_path / f"all{i}/last.ckpt", weights_only=True)["state_dict"]
        for key, value in last.items():
            torch.testing.assert_close(weights[key], value, rtol=0, atol=0)


@pytest.mark.parametrize("name", CLOSED_FORM)
@pytest.mark.parametrize("poison", [1e6, float("nan")])
def test_closed_forms_never_see_a_held_out_value(name: str, poison: float) -> None:
    setting = small_setting()
    spoilt = poisoned(setting, poison, slice(None))
    clean = impute(method(name, setting), setting)
    got = impute(method(name, spoilt), spoilt)
    np.testing.assert_array_equal(got.filled, clean.filled)


@pytest.mark.parametrize("name", CLOSED_FORM)
def test_closed_forms_fill_everything_and_keep_what_is_visible(name: str) -> None:
    masked = small_setting().masked
    filled = method(name).impute(masked.visible_values, masked.visible)
    assert filled.shape == masked.visible.shape
    assert np.isfinite(filled).all()
    np.testing.assert_array_equal(filled[masked.visible], masked.series.values[masked.visible])


def harsh() -> Setting:
    """A sensor that is never visible, half a day without any reading, and little of the rest."""
    setting = small_setting(time_features="day_week")
    drawn = np.random.default_rng(5).random(setting.masked.drawn.shape) < 0.9
    drawn[:, 4] = True
    drawn[200:344] = True
    return dataclasses.replace(setting, masked=MaskedSeries(setting.masked.series, drawn))


@pytest.mark.parametrize("name", CLOSED_FORM)
def test_closed_forms_fill_silent_sensors_and_blackouts(name: str) -> None:
    masked = harsh().masked
    filled = method(name, harsh()).impute(masked.visible_values, masked.visible)
    assert np.isfinite(filled).all()
    readings = masked.visible_values[masked.visible]
    spread = np.ptp(readings)
    assert filled.min() >= readings.min() - spread
    assert filled.max() <= readings.max() + spread


@pytest.mark.parametrize("name", GRADIENT)
def test_networks_stay_finite_with_silent_sensors_and_blackouts(name: str) -> None:
    setting = dataclasses.replace(harsh(), time_features=CONFIGS[name]["time_features"])
    network = method(name, setting).train()
    _, windows = prepare(setting, CONFIGS[name]["training"]["scaling"])
    batch = windows[[0, 190, 230]]  # the last one is within the blackout
    observed = whiten(batch.visible, [0.5])
    x = torch.where(observed, batch.x, 0.0)
    loss = training_loss(network, x, observed, batch.time_features, batch.x, batch.visible)
    loss.backward()
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    assert torch.isfinite(loss)
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    output = network.eval()(batch.x, batch.visible, batch.time_features)
    assert torch.isfinite(output).all()


def test_scaler_and_inputs_never_see_a_held_out_value() -> None:
    setting = small_setting()
    scaler, windows = prepare(setting, "per_sensor")
    for poison in (1e6, float("nan")):
        other_scaler, other = prepare(poisoned(setting, poison, slice(None)), "per_sensor")
        np.testing.assert_array_equal(other_scaler.mean, scaler.mean)
        np.testing.assert_array_equal(other_scaler.std, scaler.std)
        torch.testing.assert_close(other.x, windows.x, rtol=0, atol=0)


def test_a_method_is_refused_by_name() -> None:
    setting = small_setting()
    with pytest.raises(InputError, match=r"'magic'.*gradient, closed_form, windowed"):
        build({**CONFIGS["mean"], "kind": "magic"}, setting)
    with pytest.raises(InputError, match=r"crystal_ball.*n_nodes"):
        build({**CONFIGS["mean"], "needs": ["crystal_ball"]}, setting)
    network = {**CONFIGS["psan"]["network"], "n_heads": 5}
    with pytest.raises(InputError, match=r"model=psan: .*n_heads=5"):
        build({**CONFIGS["psan"], "network": network}, small_setting(time_features="day"))


def test_a_need_that_the_data_cannot_meet_is_named() -> None:
    series = dataclasses.replace(small_series(), distances=None)
    setting = dataclasses.replace(small_setting(series), graph=GRAPH)
    with pytest.raises(NeedNotMetError, match="no road distances"):
        build(CONFIGS["grin"], setting)
