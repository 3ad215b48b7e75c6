"""Training: batches from one copy of the series, whitening, NaN losses, early stopping."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_series import SENSORS, WINDOW, small_setting
from torch import Tensor, nn

from benchmarks.batches import Loader, OrderedBatches, ShuffledBatches
from benchmarks.budgets import TrainerConfig, TrainingConfig
from benchmarks.closed_form import impute
from benchmarks.errors import InputError
from benchmarks.fit import Fitted, fit
from benchmarks.masks import MaskedSeries
from benchmarks.methods import Setting
from benchmarks.training import NonFiniteLossError, whiten
from benchmarks.training_process import prepare

TRAINER = TrainerConfig(
    max_epochs=30, batches_per_epoch=2, batch_size=None, validation_stride=1, eval_batch_size=16,
    precision="32-true", accelerator="cpu", threads=1, progress=False,
)  # fmt: skip


class Constant(nn.Module):
    """Predicts one learned number for every entry."""

    def __init__(self, start: float = 0.0, learn: bool = True):
        super().__init__()
        self.value = nn.Parameter(torch.tensor(start))
        self.learn = learn

    def forward(self, x: Tensor, observed: Tensor, time_features: Tensor) -> Tensor:
        return torch.zeros_like(x) + (self.value if self.learn else 0 * self.value)


class Zeros:
    """Fills with zeros."""

    def impute(self, values: np.ndarray, visible: np.ndarray) -> np.ndarray:
        return np.where(visible, values, 0)


def run(
    network: nn.Module, folder: Path, setting: Setting | None = None, **training: Any
) -> Fitted:
    config = TrainingConfig(**({"batch_size": 8, "learning_rate": 0.1} | training))
    return fit(network, config, setting or small_setting(), TRAINER, folder, lambda line: None)


def test_a_constant_learns_what_a_constant_can(tmp_path: Path) -> None:
    setting = small_setting()
    fitted = run(Constant(start=2.0), tmp_path, setting)
    steps = setting.split.steps(setting.split.test)
    truth = setting.masked.series.values[steps][setting.masked.held_out[steps]]
    best = np.abs(truth - np.median(truth)).mean()
    assert best <= fitted.scores.step.total().scores()["mae"] < 1.3 * best
    assert np.isnan(fitted.filled[: steps.start]).all()
    assert np.isfinite(fitted.filled[steps]).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_with_its_place(tmp_path: Path, bad: float) -> None:
    with pytest.raises(NonFiniteLossError, match=r"epoch 1, batch 1.*learning_rate"):
        run(Constant(start=bad), tmp_path)


def test_training_stops_when_validation_no_longer_improves(tmp_path: Path) -> None:
    fitted = run(Constant(learn=False), tmp_path, patience=3)
    assert fitted.facts["epochs"] == 4
    assert fitted.facts["best_epoch"] == 1


def test_a_mask_that_hides_nothing_to_score_is_refused(tmp_path: Path) -> None:
    setting = small_setting()
    nothing = MaskedSeries(setting.masked.series, np.zeros_like(setting.masked.drawn))
    empty = dataclasses.replace(setting, masked=nothing)
    with pytest.raises(InputError, match="no reading in the validation windows"):
        run(Constant(), tmp_path, empty)
    with pytest.raises(InputError, match="no reading in the validation windows"):
        impute(Zeros(), empty)


def test_a_training_that_had_stopped_early_is_only_scored_again(tmp_path: Path) -> None:
    first = run(Constant(learn=False), tmp_path, patience=3)
    before = (tmp_path / "last.ckpt").read_bytes()
    again = run(Constant(learn=False), tmp_path, patience=3)
    assert again.facts["epochs"] == first.facts["epochs"] == 4
    assert again.scores.step.total() == first.scores.step.total()
    assert (tmp_path / "last.ckpt").read_bytes() == before


def test_batches_are_windows_of_one_copy_with_nothing_hidden_in_it() -> None:
    setting = small_setting(time_features="day")
    _, windows = prepare(setting, "global")
    batch = windows[[3, 50]]
    assert batch.x.shape == (2, WINDOW, SENSORS, 1)
    for i, start in enumerate((3, 50)):
        steps = slice(start, start + WINDOW)
        assert torch.equal(batch.x[i], windows.x[steps])
        assert torch.equal(batch.visible[i], windows.visible[steps])
        assert torch.equal(batch.time_features[i], windows.time_features[steps])
    assert (batch.x[~batch.visible] == 0).all()
    assert not (windows.visible[..., 0].numpy() & setting.masked.drawn).any()


def test_shuffled_batches_are_a_function_of_seed_and_epoch() -> None:
    def epoch(seed: int, number: int) -> list[list[int]]:
        batches = ShuffledBatches(range(10, 60), 8, 100, seed)
        batches.set_epoch(number)
        return list(batches)

    first = epoch(1, 0)
    assert [len(batch) for batch in first] == [8] * 6  # the last two windows are dropped
    assert len({start for batch in first for start in batch}) == 48
    assert {start for batch in first for start in batch} <= set(range(10, 60))
    assert epoch(1, 0) == first
    assert epoch(1, 1) != first
    assert epoch(2, 0) != first
    assert len(list(ShuffledBatches(range(5), 8, 100, 0))) == 1
    assert len(list(ShuffledBatches(range(50), 8, 3, 0))) == 3


def test_a_loader_gathers_what_the_sampler_of_the_epoch_asks_for() -> None:
    _, windows = prepare(small_setting(time_features="day"), "global")
    batches = Loader(windows.to(torch.device("cpu")), ShuffledBatches(range(40), 8, 2, seed=0))
    epochs = []
    for epoch in (0, 1, 0):
        batches.sampler.set_epoch(epoch)
        epochs.append([batch.starts.tolist() for batch in batches])
        for batch in batches:
            expected = windows[batch.starts.tolist()]
            assert torch.equal(batch.x, expected.x)
            assert torch.equal(batch.visible, expected.visible)
            assert torch.equal(batch[2:3].time_features, expected.time_features[2:3])
    assert len(batches) == len(epochs[0]) == 2
    assert epochs[0] == epochs[2] != epochs[1]


def test_ordered_batches_cover_every_window_once() -> None:
    _, windows = prepare(small_setting(), "global")
    batches = OrderedBatches(range(7, 60)[::3], 4)
    starts = [s for batch in Loader(windows, batches) for s in batch.starts.tolist()]
    assert starts == list(range(7, 60, 3))
    assert len(batches) == 5


def test_whitening_hides_the_stated_share_of_visible_entries_only() -> None:
    torch.manual_seed(0)
    visible = torch.rand(600, 24, 10, 1) < 0.7
    observed = whiten(visible, [0.2, 0.8])
    assert not (observed & ~visible).any()
    kept = observed.sum((1, 2, 3)) / visible.sum((1, 2, 3))
    low, high = kept[kept > 0.5], kept[kept < 0.5]
    assert float(low.mean()) == pytest.approx(0.8, abs=0.01)
    assert float(high.mean()) == pytest.approx(0.2, abs=0.01)
    assert 0.4 < len(low) / 600 < 0.6


class Wide(nn.Module):
    """A map of all sensors that has memory for so many windows only."""

    def __init__(self, fits: int, fails_first_in_call: int = 0):
        super().__init__()
        self.fits, self.calls, self.first = fits, 0, fails_first_in_call
        self.map = nn.Linear(SENSORS, SENSORS)

    def forward(self, x: Tensor, observed: Tensor, time_features: Tensor) -> Tensor:
        self.calls += 1
        if len(x) > self.fits and self.calls > self.first:
            raise torch.OutOfMemoryError(f"no memory for {len(x)} windows")
        return self.map(x[..., 0])[..., None]


def wide(folder: Path, fits: int, first: int = 0) -> Fitted:
    torch.manual_seed(3)
    folder.mkdir(exist_ok=True)
    config = TrainingConfig(batch_size=8, learning_rate=0.01, patience=100)
    trainer = dataclasses.replace(TRAINER, eval_batch_size=8)
    return fit(Wide(fits, first), config, small_setting(), trainer, folder, lambda line: None)


@pytest.mark.parametrize(("fits", "parts"), [(4, 2), (3, 4), (1, 8)])
def test_out_of_memory_halves_the_micro_batch_and_keeps_the_batch(
    fits: int, parts: int, tmp_path: Path
) -> None:
    whole, split = wide(tmp_path / "whole", 99), wide(tmp_path / "split", fits)
    assert whole.facts["micro_batches"] == 1
    assert split.facts["micro_batches"] == parts
    for name in ("train_steps", "epochs"):
        assert split.facts[name] == whole.facts[name]
    assert split.facts["val_mae"] == pytest.approx(whole.facts["val_mae"], rel=1e-5)
    np.testing.assert_allclose(split.filled, whole.filled, rtol=1e-4)


def test_out_of_memory_in_a_later_epoch_goes_on_from_the_last(tmp_path: Path) -> None:
    whole, split = wide(tmp_path / "whole", 99), wide(tmp_path / "split", 4, first=40)
    assert split.facts["micro_batches"] == 2
    assert split.facts["train_steps"] == whole.facts["train_steps"]
    np.testing.assert_allclose(split.filled, whole.filled, rtol=1e-4)


def test_a_window_that_does_not_fit_is_out_of_memory(tmp_path: Path) -> None:
    with pytest.raises(torch.OutOfMemoryError, match="no memory for 1 windows"):
        wide(tmp_path / "none", 0)


@pytest.mark.parametrize("name", ["best.ckpt", "last.ckpt"])
def test_a_damaged_checkpoint_is_said_and_the_training_begins_anew(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = wide(tmp_path / "whole", 99)
    path = tmp_path / "whole" / name
    path.write_bytes(path.read_bytes()[:1000])
    torch.manual_seed(3)
    again = wide(tmp_path / "whole", 99)
    assert "damaged" in caplog.text
    np.testing.assert_array_equal(again.filled, whole.filled)
