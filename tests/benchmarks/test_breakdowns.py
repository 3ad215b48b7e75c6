"""Scores by circumstance, against plain loops."""

import dataclasses

import numpy as np
import pytest
from small_series import small_series, small_setting

from benchmarks.breakdowns import BREAKDOWNS, Groups, score_groups
from benchmarks.closed_form import impute
from benchmarks.masks import MaskedSeries


class Noisy:
    """Fills with the truth of nobody: a wave."""

    def impute(self, values: np.ndarray, visible: np.ndarray) -> np.ndarray:
        wave = 50 + 10 * np.sin(np.arange(values.size)).reshape(values.shape)
        return np.where(visible, values, wave)


@pytest.fixture
def masked() -> MaskedSeries:
    """The small series, with one sensor that is never visible."""
    masked = small_setting().masked
    drawn = masked.drawn.copy()
    drawn[:, 4] = True
    drawn[40:90, 2] = True
    return MaskedSeries(masked.series, drawn)


def names(groups: Groups) -> np.ndarray:
    return np.array([*groups.names, "none"])[groups.of_entry]


def in_bin(steps: int) -> str:
    bins = {1: "1", 2: "2"}
    for low, high in ((3, 5), (6, 11), (12, 23), (24, 47), (48, 287)):
        bins |= dict.fromkeys(range(low, high + 1), f"{low}-{high}")
    return bins.get(steps, "288+")


def test_gaps_and_distances_against_a_plain_loop(masked: MaskedSeries) -> None:
    visible = masked.visible
    gap, near = (names(BREAKDOWNS[by](masked)) for by in ("gap_length", "distance"))
    steps = np.arange(len(visible))
    for sensor in range(visible.shape[1]):
        seen = steps[visible[:, sensor]]
        for step in steps:
            if visible[step, sensor]:
                assert gap[step, sensor] == near[step, sensor] == "none"
                continue
            before, after = seen[seen < step], seen[seen > step]
            start = before[-1] + 1 if len(before) else 0
            end = after[0] if len(after) else len(steps)
            assert gap[step, sensor] == in_bin(end - start)
            distance = np.abs(seen - step).min() if len(seen) else None
            wanted = "sensor never visible" if distance is None else in_bin(int(distance))
            assert near[step, sensor] == wanted


def test_hours_and_sensors(masked: MaskedSeries) -> None:
    hours, sensors = (names(BREAKDOWNS[by](masked)) for by in ("hour", "sensor"))
    assert (hours[:12] == "00").all()
    assert (hours[12] == "01").all()
    assert (hours[-1] == f"{masked.series.time[-1].hour:02d}").all()
    assert (sensors == np.array(masked.series.sensors)).all()


def test_congestion_is_half_of_free_flow_and_of_speeds_only(masked: MaskedSeries) -> None:
    series = masked.series
    values = series.values.copy()
    values[100, 1], values[101, 1] = 20.0, 40.0
    observed = series.observed.copy()
    observed[100:102, 1] = True
    slow = MaskedSeries(dataclasses.replace(series, values=values, observed=observed), masked.drawn)
    found = names(BREAKDOWNS["congestion"](slow))
    assert (found[100, 1], found[101, 1]) == ("congested", "free")
    assert (found[~observed] == "none").all()
    flow = dataclasses.replace(slow.series, unit="vehicles / 5 min")
    assert (names(BREAKDOWNS["congestion"](MaskedSeries(flow, masked.drawn))) == "none").all()


def test_groups_hold_every_scored_entry_once(masked: MaskedSeries) -> None:
    setting = dataclasses.replace(small_setting(), masked=masked)
    fitted = impute(Noisy(), setting)
    table = score_groups(fitted.scores, masked)
    for _, rows in table.groupby("by"):
        assert rows["entries"].sum() == fitted.scores.scored.sum()
        mae = np.average(rows["step_mae"], weights=rows["entries"])
        assert mae == pytest.approx(fitted.scores.step.total().scores()["mae"], rel=1e-9)
    assert not table.isna().any().any()


def test_the_scores_of_one_group_against_plain_numpy() -> None:
    setting = small_setting(small_series())
    fitted = impute(Noisy(), setting)
    table = score_groups(fitted.scores, setting.masked).set_index(["by", "group"])
    entries = fitted.scores.scored & (setting.masked.series.time.hour == 5)[:, None]
    truth = setting.masked.series.values[entries].astype("f8")
    error = np.abs(fitted.filled[entries] - truth)
    row = table.loc[("hour", "05")]
    assert row["entries"] == entries.sum()
    assert row["step_mae"] == pytest.approx(error.mean(), rel=1e-6)
    assert row["step_rmse"] == pytest.approx(np.sqrt((error**2).mean()), rel=1e-6)
    assert row["step_mre"] == pytest.approx(error.sum() / truth.sum(), rel=1e-6)
    assert row["step_mape"] == pytest.approx((error / truth).mean(), rel=1e-6)
