"""Vector autoregression against plain least squares and loops, and its edge cases."""

import numpy as np
import pytest

from baselines import var
from baselines.linear import Linear
from baselines.var import Predictor, Var, fit, share_of_forward

LAGS = np.array(
    [[[0.5, 0.4, 0.0], [0.0, 0.3, -0.4], [0.2, 0.0, 0.6]], [[0.2, 0, 0], [0, 0.1, 0], [0, 0, -0.3]]]
)
"""Weights of a stable process: lag, source, target."""


def process(steps, noise=1.0, seed=0):
    rng = np.random.default_rng(seed)
    series = np.zeros((steps, 3))
    for t in range(2, steps):
        series[t] = series[t - 1] @ LAGS[0] + series[t - 2] @ LAGS[1] + rng.normal(0, noise, 3)
    return series


def visible_share(shape, share, seed=1):
    return np.random.default_rng(seed).random(shape) < share


def test_a_process_is_recovered():
    z = process(20000).astype(np.float32)
    predictor = next(fit(z, 2, [("zero", 1e-6)]))
    np.testing.assert_allclose(predictor.weights.reshape(2, 3, 3), LAGS, atol=0.03)
    np.testing.assert_allclose(predictor.bias, 0, atol=0.05)


def test_ridge_equals_least_squares_on_extended_rows(monkeypatch):
    monkeypatch.setattr(var, "BLOCK", 7)
    z, order, penalty = process(60).astype(np.float32) + 3, 4, 0.05
    rows = [z[t - order : t][::-1].ravel() for t in range(order, len(z))]
    x, y = np.array(rows, dtype=np.float64), z[order:].astype(np.float64)
    x0, y0 = x - x.mean(axis=0), y - y.mean(axis=0)
    root = np.sqrt(penalty * len(x)) * np.eye(x.shape[1])
    own_root = np.sqrt(var.OWN_RIDGE * len(x)) * np.eye(order)
    centre = np.zeros((x.shape[1], 3))
    for n in range(3):
        own = np.concatenate([x0[:, n::3], own_root]), np.append(y0[:, n], np.zeros(order))
        centre[n::3, n] = np.linalg.lstsq(*own, rcond=None)[0]
    both = fit(z, order, [("zero", penalty), ("own", penalty)])
    for predictor, prior in zip(both, (0 * centre, centre), strict=True):
        expected = np.linalg.lstsq(
            np.concatenate([x0, root]), np.concatenate([y0, root @ prior]), rcond=None
        )[0]
        np.testing.assert_allclose(predictor.weights, expected, atol=1e-4)
        bias = y.mean(axis=0) - x.mean(axis=0) @ expected
        np.testing.assert_allclose(predictor.bias, bias, atol=1e-3)


@pytest.mark.parametrize("ahead", [False, True])
def test_filling_equals_a_loop(ahead):
    rng = np.random.default_rng(2)
    weights, bias = rng.normal(0, 0.3, (6, 3)), rng.normal(0, 0.1, 3)
    z, visible, before = (
        rng.normal(size=(40, 3)),
        visible_share((40, 3), 0.5),
        rng.normal(size=(2, 3)),
    )
    lowest, highest = np.full(3, -0.8), np.full(3, 0.9)
    got = Predictor(weights, bias, lowest, highest).fill(z, visible, before, ahead)
    history = list(before)
    for t in range(40):
        step = np.empty(3)
        for n in range(3):
            guess = bias[n]
            for k in range(2):
                for m in range(3):
                    guess += weights[3 * k + m, n] * history[-1 - k][m]
            guess = min(max(guess, -0.8), 0.9)
            step[n] = z[t, n] if visible[t, n] else guess
            assert got[t, n] == pytest.approx(guess if ahead else step[n])
        history.append(step)


def test_what_other_sensors_tell_ahead_is_used():
    rng = np.random.default_rng(3)
    source = rng.normal(size=601)
    values = np.stack([source[1:], source[:-1]], axis=1)  # the second repeats the first later
    visible = visible_share(values.shape, 0.9)
    visible[:, 0] = True
    hidden = ~visible
    filled = Var(n_train_steps=400, direction="forward").impute(values, visible)
    of_linear = np.abs(Linear().impute(values, visible) - values)[hidden].mean()
    assert np.abs(filled - values)[hidden].mean() < 0.25 * of_linear


def test_fitted_on_the_training_steps_only():
    values, visible = process(300).astype(np.float32), visible_share((300, 3), 0.7)
    visible[200] = True
    other = values.copy()
    other[201:] = 1e3
    for direction in ("forward", "both"):
        method = Var(n_train_steps=201, direction=direction)
        first, second = (method.impute(x, visible)[:201] for x in (values, other))
        if direction == "forward":
            np.testing.assert_array_equal(first, second)
        else:  # only the gaps that the later readings fill backwards
            np.testing.assert_allclose(first[:150], second[:150], atol=1e-2)


def test_both_directions_are_averaged_by_distance():
    values, visible = process(200), visible_share((200, 3), 0.5)
    fill = {d: Var(n_train_steps=150, direction=d).impute(values, visible) for d in var.DIRECTIONS}
    share = share_of_forward(visible)
    expected = share * fill["forward"] + (1 - share) * fill["backward"]
    np.testing.assert_allclose(np.where(visible, values, expected), fill["both"], atol=1e-5)
    seen = np.array([[0, 0, 1, 0, 0, 0, 1, 0]], bool).T
    assert share_of_forward(seen)[~seen].tolist() == [0, 0, 0.75, 0.5, 0.25, 1]


@pytest.mark.parametrize("steps", [30, 300])
@pytest.mark.parametrize("direction", ["forward", "backward", "both"])
def test_edge_cases(steps, direction):
    """Constant, single, late and silent sensors; a blackout; and whatever stands in the gaps."""
    rng = np.random.default_rng(4)
    values = (100 * rng.normal(3, 1, (steps, 7))).astype(np.float32)
    values[:, 0] = 60
    visible = visible_share(values.shape, 0.5)
    visible[:, 1:3] = False
    visible[3, 2] = True
    visible[:, 3] &= rng.random(steps) < 0.1
    visible[: 2 * steps // 3, 4] = False
    visible[steps // 3 : steps // 2] = False
    visible[0, 0] = visible[-1, 4] = True
    method = Var(n_train_steps=2 * steps // 3, direction=direction)
    outcomes = [
        method.impute(np.where(visible, values, np.float32(junk)), visible)
        for junk in (np.nan, 1e6, -np.inf)
    ]
    for filled in outcomes:
        np.testing.assert_array_equal(filled, outcomes[0])
        assert filled.dtype == np.float32
        assert np.isfinite(filled).all()
        np.testing.assert_array_equal(filled[visible], values[visible])
    np.testing.assert_allclose(outcomes[0][:, 0], 60, rtol=1e-4)
    linear = Linear().impute(np.where(visible, values, np.float32(np.nan)), visible)
    np.testing.assert_array_equal(outcomes[0][:, [1, 4]], linear[:, [1, 4]])


def test_one_sensor_and_nothing_visible_in_training():
    values = process(100)[:, :1]
    assert np.isfinite(Var(n_train_steps=70).impute(values, visible_share((100, 1), 0.1))).all()
    visible = np.arange(100)[:, None] > 80
    linear = Linear().impute(values, visible)
    np.testing.assert_array_equal(Var(n_train_steps=70).impute(values, visible), linear)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"direction": "up"}, "'up'.*forward, backward, both"),
        ({"priors": ["flat"]}, "flat.*zero, own"),
        ({"ridge": []}, "ridge"),
        ({"order": 0}, "order=0"),
        ({"n_train_steps": 8}, "a third of the 8"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        Var(**{"n_train_steps": 100, **options})


def test_bad_input_is_named():
    method = Var(n_train_steps=20)
    with pytest.raises(ValueError, match="none of the 60 entries is visible"):
        method.impute(np.full((30, 2), np.nan), np.zeros((30, 2), bool))
    with pytest.raises(ValueError, match="3 steps are fewer"):
        method.impute(np.ones((3, 2)), np.ones((3, 2), bool))
