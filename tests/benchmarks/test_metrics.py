"""Scores against a plain loop, and independent of how windows are batched."""

import math

import numpy as np
import pytest

from benchmarks.metrics import ErrorSums, WindowScorer, entry_errors
from benchmarks.windows import windows_covering

STEPS, SENSORS, WINDOW = 60, 3, 8


@pytest.fixture
def case() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Truth, held-out mask, window starts and one prediction per window."""
    rng = np.random.default_rng(4)
    truth = rng.normal(40, 10, (STEPS, SENSORS)).astype("f4")
    truth[rng.random(truth.shape) < 0.1] = 0
    held_out = rng.random(truth.shape) < 0.3
    truth[rng.random(truth.shape) < 0.1] = np.nan
    held_out &= ~np.isnan(truth)
    starts = np.arange(20, STEPS - WINDOW + 1)
    prediction = rng.normal(40, 10, (len(starts), WINDOW, SENSORS)).astype("f4")
    return truth, held_out, starts, prediction


def plain_scores(pairs: list[tuple[float, float]]) -> dict[str, float]:
    errors = [abs(p - y) for p, y in pairs]
    relative = [abs(p - y) / abs(y) for p, y in pairs if y != 0]
    mse = sum(e**2 for e in errors) / len(errors)
    return {
        "mae": sum(errors) / len(errors),
        "rmse": math.sqrt(mse),
        "mse": mse,
        "mre": sum(errors) / sum(abs(y) for _, y in pairs),
        "mape": sum(relative) / len(relative),
        "mape_left_out": 1 - len(relative) / len(pairs),
    }


def test_both_conventions_against_a_plain_loop(case: tuple) -> None:
    truth, held_out, starts, prediction = case
    scorer = WindowScorer(truth, held_out, WINDOW)
    scorer.update(starts, prediction)

    by_window, by_entry = [], {}
    for i, start in enumerate(starts):
        for step in range(WINDOW):
            for sensor in range(SENSORS):
                if held_out[start + step, sensor]:
                    value = float(prediction[i, step, sensor])
                    by_window.append((value, float(truth[start + step, sensor])))
                    by_entry.setdefault((start + step, sensor), []).append(value)
    by_step = [(float(np.mean(v)), float(truth[entry])) for entry, v in by_entry.items()]

    scores = scorer.scores()
    assert scores.window.total().scores() == pytest.approx(plain_scores(by_window), rel=1e-6)
    assert scores.step.total().scores() == pytest.approx(plain_scores(by_step), rel=1e-6)


@pytest.mark.parametrize("batch", [1, 2, 7, 100])
def test_scores_do_not_depend_on_the_batch_size(case: tuple, batch: int) -> None:
    truth, held_out, starts, prediction = case
    whole, parts = (WindowScorer(truth, held_out, WINDOW) for _ in range(2))
    whole.update(starts, prediction)
    for first in range(0, len(starts), batch):
        parts.update(starts[first : first + batch], prediction[first : first + batch])
    for convention in ("window", "step"):
        got, wanted = (getattr(scorer.scores(), convention) for scorer in (parts, whole))
        for part in ("truth", "count", "absolute", "squared"):
            np.testing.assert_array_equal(getattr(got, part), getattr(wanted, part))


def test_weights_stand_for_repeated_windows(case: tuple) -> None:
    truth, held_out, starts, _ = case
    filled = np.full_like(truth, 41.0)
    scorer = WindowScorer(truth, held_out, WINDOW)
    steps = starts[:, None] + np.arange(WINDOW)
    scorer.update(starts, filled[steps])
    weight = windows_covering(range(starts[0], starts[-1] + 1), WINDOW, STEPS)
    weight = np.broadcast_to(weight[:, None], truth.shape)
    weighted = entry_errors(filled, truth, held_out & (weight > 0), weight)
    by_window = scorer.scores().window.total()
    assert weighted.total().scores() == pytest.approx(by_window.scores(), rel=1e-12)


def test_groups_add_up_and_a_negative_group_counts_nowhere(case: tuple) -> None:
    truth, held_out, starts, prediction = case
    scorer = WindowScorer(truth, held_out, WINDOW)
    scorer.update(starts, prediction)
    for errors in (scorer.scores().window, scorer.scores().step):
        group = np.arange(len(errors.truth)) % 4 - 1
        sums = errors.by_group(group, 3)
        kept = group >= 0
        parts = [getattr(errors, name)[kept] for name in ("truth", "count", "absolute", "squared")]
        total = type(errors)(*parts).total()
        for name in total.__dataclass_fields__:
            assert getattr(sums, name).sum() == pytest.approx(getattr(total, name), rel=1e-12)
        of_second = errors.absolute[group == 1].sum() / errors.count[group == 1].sum()
        assert sums.scores()["mae"][1] == pytest.approx(of_second, rel=1e-12)


def test_nothing_to_score_gives_nan() -> None:
    assert all(math.isnan(score) for score in ErrorSums().scores().values())
