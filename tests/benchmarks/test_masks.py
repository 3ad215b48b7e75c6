"""Every pattern of missing readings: rate, run lengths, seed, and what each is meant to be."""

import dataclasses
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_series import composed, small_series

from benchmarks.breakdowns import runs
from benchmarks.errors import InputError, NeedNotMetError
from benchmarks.masks import MaskedSeries, patterns
from benchmarks.masks.drawing import MASK_NEEDS, draw_mask, great_circle, mask_facts
from benchmarks.masks.outages import TOLERANCE
from benchmarks.masks.saved import mask_path, read_mask, save_mask
from benchmarks.paths import conf_dir

PATTERNS = sorted(path.stem for path in conf_dir().glob("mask/*.yaml"))
FAULTS = ("block", "spatial_block", "blackout")
SHORTEST, LONGEST = 12, 47


def line(sensors: int) -> np.ndarray:
    """Distances along a line of sensors; only neighbours are linked."""
    place = 100.0 * np.arange(sensors)
    distances = np.abs(place[:, None] - place)
    return np.where(distances <= 100, distances, np.inf).astype(np.float32)


@cache
def configuration(pattern: str) -> dict[str, Any]:
    """`conf/mask/<pattern>.yaml`."""
    return dict(composed(f"mask={pattern}")["mask"])


def generator(pattern: str, sensors: int, values: np.ndarray) -> Callable[..., np.ndarray]:
    """The calibrated generator of a pattern, as its YAML sets it up."""
    mask = configuration(pattern)
    own = mask["calibrated"]
    parameters = {key: value for key, value in own.items() if key not in ("_target_", "rate")}
    needs: dict[str, Any] = {"distances": line(sensors), "values": values, "is_speed": True}
    given = {name: needs[name] for name in mask["needs"]}
    return partial(getattr(patterns, own["_target_"].rpartition(".")[2]), **given, **parameters)


@st.composite
def networks(draw: Callable[[Any], Any]) -> tuple[np.ndarray, np.ndarray]:
    """Values and observed entries of networks of many sizes, up to a third natively missing."""
    steps, sensors = draw(st.integers(400, 1500)), draw(st.integers(2, 12))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    values = rng.normal(50, 10, (steps, sensors)).astype(np.float32)
    observed = rng.random(values.shape) >= draw(st.floats(0, 0.3))
    return values, observed


@pytest.mark.parametrize("pattern", PATTERNS)
@settings(max_examples=30, deadline=None)
@given(network=networks(), rate=st.floats(0.05, 0.9), seed=st.integers(0, 2**32))
def test_rate_is_met_on_what_was_observed(
    pattern: str, network: tuple[np.ndarray, np.ndarray], rate: float, seed: int
) -> None:
    values, observed = network
    draw = generator(pattern, observed.shape[1], values)
    drawn = draw(observed=observed, seed=seed, rate=rate)
    assert drawn.dtype == np.bool_
    assert not (drawn & ~observed).any()
    assert abs(drawn.sum() / observed.sum() - rate) <= TOLERANCE
    np.testing.assert_array_equal(draw(observed=observed, seed=seed, rate=rate), drawn)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_another_seed_draws_another_mask(pattern: str) -> None:
    values = np.random.default_rng(0).normal(50, 10, (600, 9)).astype(np.float32)
    observed = np.ones(values.shape, dtype=bool)
    draw = generator(pattern, 9, values)
    drawn = [draw(observed=observed, seed=seed, rate=0.3).tobytes() for seed in range(5)]
    assert len(set(drawn)) == 5


@pytest.mark.parametrize("pattern", FAULTS)
@settings(max_examples=30, deadline=None)
@given(rate=st.floats(0.05, 0.9), seed=st.integers(0, 1000), steps=st.integers(400, 1500))
def test_faults_have_the_lengths_that_are_asked_for(
    pattern: str, rate: float, seed: int, steps: int
) -> None:
    everywhere = np.ones((steps, 7), dtype=bool)
    drawn = generator(pattern, 7, everywhere)(observed=everywhere, seed=seed, rate=rate)
    faults = runs(drawn)
    length = faults.end - faults.start
    assert length.min() >= SHORTEST
    assert length.max() <= LONGEST


@pytest.mark.parametrize("rate", [0.05, 0.25, 0.5, 0.75, 0.9])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_values_at_what_is_not_observed_play_no_part(pattern: str, rate: float) -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(50, 10, (600, 8)).astype(np.float32)
    observed = rng.random(values.shape) < 0.8
    drawn = [
        generator(pattern, 8, np.where(observed, values, poison))(
            observed=observed, seed=3, rate=rate
        )
        for poison in (np.float32(np.nan), np.float32(1e9))
    ]
    np.testing.assert_array_equal(*drawn)


def test_runs_against_a_plain_loop() -> None:
    mask = np.random.default_rng(0).random((50, 3)) < 0.5
    plain = []
    for sensor in range(3):
        start = None
        for step in range(51):
            inside = step < 50 and mask[step, sensor]
            if inside and start is None:
                start = step
            if not inside and start is not None:
                plain.append((sensor, start, step))
                start = None
    found = runs(mask)
    assert list(zip(found.sensor, found.start, found.end, strict=True)) == plain


def test_fault_lengths_and_places_are_spread() -> None:
    everywhere = np.ones((4000, 40), dtype=bool)
    drawn = generator("block", 40, everywhere)(observed=everywhere, seed=1, rate=0.25)
    faults = runs(drawn)
    length = faults.end - faults.start
    assert length.mean() == pytest.approx((SHORTEST + LONGEST) / 2, rel=0.05)
    assert len(np.unique(length)) == LONGEST - SHORTEST + 1
    by_part = drawn.reshape(10, 400, 40).mean(axis=(1, 2))
    assert by_part.min() > 0.2
    assert by_part.max() < 0.3


def test_a_neighbourhood_is_connected_and_out_together() -> None:
    everywhere = np.ones((900, 23), dtype=bool)
    draw = generator("spatial_block", 23, everywhere)
    drawn = draw(observed=everywhere, seed=5, rate=0.3, size=5)
    groups = patterns.neighbourhoods(line(23), 5, np.random.default_rng(5))
    assert sorted(np.concatenate(groups)) == list(range(23))
    assert max(map(len, groups)) == 5
    for group in groups:
        assert (np.diff(np.sort(group)) == 1).all(), "a stretch of the line"
        assert (drawn[:, group] == drawn[:, group[:1]]).all()
    signatures = {drawn[:, group[0]].tobytes() for group in groups}
    assert len(signatures) == len(groups)


def test_a_blackout_takes_everything() -> None:
    everywhere = np.ones((900, 5), dtype=bool)
    drawn = generator("blackout", 5, everywhere)(observed=everywhere, seed=5, rate=0.3)
    assert (drawn.all(axis=1) == drawn.any(axis=1)).all()


def test_hidden_sensors_are_never_seen_and_one_fills_up_the_rate() -> None:
    everywhere = np.ones((900, 10), dtype=bool)
    drawn = generator("sensor", 10, everywhere)(observed=everywhere, seed=5, rate=0.25)
    assert drawn.all(axis=0).sum() == 2
    many = np.ones((400, 101), dtype=bool)
    drawn_of_many = patterns.sensor(many, 1, 0.3333)
    assert (drawn_of_many.all(axis=0) == drawn_of_many.any(axis=0)).all(), "whole sensors only"
    (late,) = np.flatnonzero(drawn.any(axis=0) & ~drawn.all(axis=0))
    assert drawn[:450, late].all()
    assert not drawn[450:, late].any()


@pytest.mark.parametrize("is_speed", [True, False])
def test_missing_not_at_random_takes_congestion(is_speed: bool) -> None:
    rng = np.random.default_rng(2)
    values = rng.normal(50, 10, (20_000, 6)).astype(np.float32)
    everywhere = np.ones(values.shape, dtype=bool)
    drawn = patterns.mnar(everywhere, values, is_speed, seed=1, rate=0.25, strength=2.0)
    hidden, kept = values[drawn].mean(), values[~drawn].mean()
    assert (hidden < kept - 10) if is_speed else (hidden > kept + 10)
    odds = [  # log-odds a standard deviation apart
        np.log(drawn[near].mean() / (1 - drawn[near].mean()))
        for z in (-1.0, 0.0)
        for near in [np.abs((values - 50) / 10 - z) < 0.1]
    ]
    assert abs(odds[0] - odds[1]) == pytest.approx(2.0, abs=0.25)
    flat = patterns.mnar(
        everywhere, np.ones_like(values), is_speed, seed=1, rate=0.25, strength=2.0
    )
    assert flat.mean() == pytest.approx(0.25, abs=1e-3)


@pytest.mark.parametrize("bad", [0.0, 1.0, -0.1, 25.0, float("nan")])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_rate_that_is_no_share_is_refused(pattern: str, bad: float) -> None:
    everywhere = np.ones((500, 4), dtype=bool)
    with pytest.raises(InputError, match=f"mask.rate={bad}"):
        generator(pattern, 4, everywhere.astype("f4"))(observed=everywhere, seed=1, rate=bad)


def test_faults_that_cannot_meet_the_rate_are_refused() -> None:
    everywhere = np.ones((500, 4), dtype=bool)
    with pytest.raises(InputError, match=r"mask.rate=0.99|lower mask.rate"):
        patterns.block(everywhere, 1, 0.99, 2, 3)
    with pytest.raises(InputError, match=r"mask.rate=0.01 .*nearest"):
        patterns.blackout(everywhere, 1, 0.01, 12, 47)
    with pytest.raises(InputError, match="9 to 3"):
        patterns.block(everywhere, 1, 0.25, 9, 3)
    with pytest.raises(InputError, match="size=0"):
        patterns.spatial_block(everywhere, line(4), 1, 0.25, 0, 12, 47)
    with pytest.raises(InputError, match="strength=-1"):
        patterns.mnar(everywhere, everywhere.astype("f4"), True, 1, 0.25, -1.0)


def drawn_mask(pattern: str, *overrides: str, **changes: Any) -> MaskedSeries:
    mask = composed(f"mask={pattern}", *overrides)["mask"]
    return draw_mask(
        mask["calibrated"], mask["needs"], dataclasses.replace(small_series(), **changes), 3
    )


def test_a_mask_without_a_map_is_skipped_with_its_reason() -> None:
    with pytest.raises(NeedNotMetError, match="neither road distances nor coordinates"):
        drawn_mask("spatial_block", distances=None)
    coordinates = np.stack([np.full(6, 34.0), -118 + 0.01 * np.arange(6)], axis=1)
    assert drawn_mask("spatial_block", distances=None, coordinates=coordinates).drawn.any()


def test_bad_masks_are_named() -> None:
    mask = composed("mask=mnar")["mask"]
    with pytest.raises(InputError, match=r"moon.*values, is_speed, distances"):
        draw_mask(mask["calibrated"], ["moon"], small_series(), 3)
    assert set(mask["needs"]) <= set(MASK_NEEDS)


def own(observed: np.ndarray, seed: int, kind: str) -> np.ndarray:
    """Generators as a user might write them."""
    if kind == "changes its input":
        observed[0] = True
    if kind == "fails":
        raise ZeroDivisionError
    made = {"numbers": np.ones(observed.shape), "line": np.ones(len(observed), dtype=bool)}
    return made[kind]


@pytest.mark.parametrize(
    ("kind", "error", "named"),
    [
        ("numbers", InputError, r"returned float64 \(420, 6\); a mask is bool \(420, 6\)"),
        ("line", InputError, r"returned bool \(420,\)"),
        ("changes its input", InputError, "read-only"),
        ("fails", ZeroDivisionError, ""),
    ],
)
def test_a_bad_generator_is_named(kind: str, error: type[Exception], named: str) -> None:
    with pytest.raises(error, match=named):
        draw_mask({"_target_": f"{__name__}.own", "kind": kind}, [], small_series(), 3)


def test_what_a_mask_is_drawn_from_is_in_the_run_key() -> None:
    series = small_series()
    assert mask_facts(["values"], series) == {}
    assert mask_facts(["distances"], series) == {}
    assert mask_facts(["is_speed"], series) == {"is_speed": True}
    flow = dataclasses.replace(series, unit="vehicles / 5 min")
    assert mask_facts(["is_speed"], flow) == {"is_speed": False}
    coordinates = np.stack([np.full(6, 34.0), -118 + 0.01 * np.arange(6)], axis=1)
    placed = dataclasses.replace(series, distances=None, coordinates=coordinates)
    assert mask_facts(["distances"], placed) == {"coordinates": coordinates.tolist()}


def test_great_circle_distances() -> None:
    degree = great_circle(np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0]]))
    np.testing.assert_allclose(degree[0], [0, 111_195, 111_195], rtol=1e-4)
    assert (np.diag(degree) == 0).all()


def test_a_saved_mask_is_the_drawn_one(tmp_path: Path) -> None:
    masked = drawn_mask("block", "mask.rate=0.3")
    save_mask(tmp_path, masked)
    path = mask_path(tmp_path, "small", masked.series.fingerprint, masked.mask_hash)
    saved = read_mask(path)
    np.testing.assert_array_equal(saved.drawn, masked.drawn)
    np.testing.assert_array_equal(saved.observed, masked.series.observed)
    np.testing.assert_array_equal(saved.time, masked.series.time.to_numpy())
