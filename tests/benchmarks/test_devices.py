"""One cell over several devices: two CPU processes train and score as one does."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from small_series import SENSORS, STEPS, WINDOW, small_setting

from benchmarks.batches import Share
from benchmarks.budgets import TrainerConfig, TrainingConfig, WindowedTraining
from benchmarks.compose import cell_of, composer
from benchmarks.devices import require_shares
from benchmarks.errors import InputError
from benchmarks.fit import Fitted, fit
from benchmarks.methods import Setting
from benchmarks.training import NonFiniteLossError, loss_weight, training_loss, whiten
from benchmarks.training_process import prepare
from benchmarks.windowed import fit_windowed
from benchmarks.windows import windows_covering
from psan import PSAN

ROUNDING = 1e-4
"""Relative: gradients and sums are added in another order, through three epochs of Adam."""

ONE = TrainerConfig(
    max_epochs=3, batches_per_epoch=3, batch_size=None, validation_stride=3, eval_batch_size=7,
    precision="32-true", accelerator="cpu", threads=1, progress=False,
)  # fmt: skip
TWO = dataclasses.replace(ONE, devices=2)
BATCH = 5  # 2 windows for the one process and 3 for the other


class Stop(Exception):
    """Ends a training from outside."""


def setting() -> Setting:
    return small_setting(time_features="day")


def network() -> PSAN:
    torch.manual_seed(1)
    return PSAN(SENSORS, WINDOW, n_prototypes=4, d_model=8, n_heads=2, n_layers=1, dropout=0.0)


def run(
    trainer: TrainerConfig, folder: Path, model: PSAN | None = None, until: int | None = None
) -> tuple[Fitted, list[Mapping[str, float]]]:
    """A training, which ends with `Stop` when the epoch `until` is reported."""
    lines: list[Mapping[str, float]] = []

    def report(line: Mapping[str, float]) -> None:
        lines.append(line)
        if line["epoch"] == until:
            raise Stop

    config = TrainingConfig(batch_size=BATCH, learning_rate=0.01)
    return fit(model or network(), config, setting(), trainer, folder, report), lines


def course(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "history.csv").drop(columns="seconds")


def assert_same_result(got: Fitted, expected: Fitted) -> None:
    for name in ("window", "step"):
        sums, other = (getattr(fitted.scores, name) for fitted in (got, expected))
        np.testing.assert_array_equal(sums.count, other.count)
        np.testing.assert_allclose(sums.absolute.sum(), other.absolute.sum(), rtol=ROUNDING)
        np.testing.assert_allclose(sums.squared.sum(), other.squared.sum(), rtol=ROUNDING)
    np.testing.assert_allclose(got.filled, expected.filled, rtol=ROUNDING)
    for fact in ("n_params", "epochs", "best_epoch", "train_steps", "precision"):
        assert got.facts[fact] == expected.facts[fact]


@pytest.fixture(scope="module")
def on_one(tmp_path_factory: pytest.TempPathFactory) -> tuple[Fitted, Path]:
    folder = tmp_path_factory.mktemp("one")
    return run(ONE, folder)[0], folder


def test_two_processes_train_and_score_as_one(on_one: tuple[Fitted, Path], tmp_path: Path) -> None:
    got, lines = run(TWO, tmp_path)
    expected, folder = on_one
    assert_same_result(got, expected)
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    pd.testing.assert_frame_equal(course(tmp_path), course(folder), rtol=ROUNDING)
    weights, other = (
        torch.load(path / "best.ckpt", weights_only=True)["state_dict"]
        for path in (tmp_path, folder)
    )
    torch.testing.assert_close(weights, other, rtol=ROUNDING, atol=ROUNDING)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in folder.iterdir()}

    split, scores = setting().split, got.scores
    assert len(split.test) % 2 == 1  # the parts are not equal
    often = windows_covering(split.test, WINDOW, STEPS)[:, None]
    expected_count = np.broadcast_to(often, scores.scored.shape)[scores.scored]
    np.testing.assert_array_equal(scores.window.count, expected_count)


def test_a_training_goes_on_with_another_number_of_devices(
    on_one: tuple[Fitted, Path], tmp_path: Path
) -> None:
    with pytest.raises(Stop):
        run(ONE, tmp_path, until=2)
    before = len(course(tmp_path))
    got, lines = run(TWO, tmp_path)
    assert before == 2
    assert [line["epoch"] for line in lines] == [2, 3]  # epoch 2 had no checkpoint yet
    assert_same_result(got, on_one[0])
    pd.testing.assert_frame_equal(course(tmp_path), course(on_one[1]), rtol=ROUNDING)
    again, lines = run(dataclasses.replace(ONE, max_epochs=3), tmp_path)
    assert not lines
    assert_same_result(again, on_one[0])


def test_an_error_in_a_process_is_raised_here(tmp_path: Path) -> None:
    model = network()
    with torch.no_grad():
        model.head[2].bias.fill_(torch.nan)
    with pytest.raises(NonFiniteLossError, match=r"epoch 1, batch 1.*learning_rate"):
        run(TWO, tmp_path, model)


@pytest.mark.parametrize("processes", [2, 3])
def test_weighted_parts_average_to_the_loss_of_the_batch(processes: int) -> None:
    torch.manual_seed(0)
    batch, model = prepare(setting(), "global")[1][[0, 9, 40, 77, 120]], network()
    observed = whiten(batch.visible, [0.2, 0.8])

    def loss(part: slice) -> torch.Tensor:
        own, look = batch[part], observed[part]
        x = torch.where(look, own.x, 0.0)
        return training_loss(model, x, look, own.time_features, own.x, own.visible)

    shares = [Share(rank, processes) for rank in range(processes)]
    weighted = [
        loss(share.of(BATCH)) * loss_weight(model, observed, batch.visible, share)
        for share in shares
    ]
    mean, whole = torch.stack(weighted).mean(), loss(slice(None))
    torch.testing.assert_close(mean, whole)
    parameters = list(model.parameters())
    torch.testing.assert_close(
        torch.autograd.grad(mean, parameters), torch.autograd.grad(whole, parameters)
    )


def test_shares_are_all_windows_once() -> None:
    for processes in (1, 2, 3, 5):
        for windows in (1, 2, 5, 16, 17):
            parts = [range(windows)[Share(r, processes).of(windows)] for r in range(processes)]
            assert [i for part in parts for i in part] == list(range(windows))
            assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("bad", [0, -1, 1.5, "two", True, None])
def test_a_number_of_devices_that_is_none_is_refused(bad: Any) -> None:
    config = dataclasses.replace(ONE)
    object.__setattr__(config, "devices", bad)  # past the annotation, which tests check
    with pytest.raises(InputError, match=rf"trainer.devices={bad} must be a whole number from 1"):
        config.__post_init__()


def test_a_windowed_method_takes_one_device() -> None:
    class Untrained:
        def fit(self, *data: Any, **options: Any) -> Mapping[str, Any]:
            raise AssertionError("it was trained")

        def impute(self, windows: np.ndarray) -> np.ndarray:
            return windows

    training = WindowedTraining(batch_size=4, learning_rate=0.1)
    with pytest.raises(InputError, match=r"trainer.devices=2 .* windowed"):
        fit_windowed(Untrained(), training, setting(), TWO)


def test_the_run_key_is_that_of_one_device() -> None:
    def key(devices: int) -> str:
        with composer(["model=psan", f"trainer.devices={devices}"]) as composing:
            return cell_of(composing.sweep)[0].key("")

    assert key(1) == key(2)


def test_more_devices_than_there_is_work_or_hardware_for_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="devices=6 is more than the windows in a batch: 5"):
        run(dataclasses.replace(ONE, devices=6), tmp_path)
    few = dataclasses.replace(TWO, validation_stride=1000)
    with pytest.raises(InputError, match="devices=2 is more than the windows for validation: 1"):
        run(few, tmp_path)
    with pytest.raises(InputError, match=r"trainer.devices=99.* GPU"):
        require_shares(99, {}, on_gpu=True)
