"""Learning-rate schedules against the published formulas."""

import math

import pytest

from benchmarks.errors import InputError
from benchmarks.schedules import schedule


def published_magic(epoch: int, epochs: int) -> float:
    if epoch < 12:
        return max(0.1, epoch / 12)
    q = (epoch - 12) / (epochs - 12)
    if q >= 1:
        return 0.0
    cycles = epochs // 100
    return max(0.1, 0.5 * (1 + math.cos(math.pi * ((cycles * q) % 1))) * (1 - 0.67 * q))


@pytest.mark.parametrize("epochs", [300, 400])
def test_long_trainings_follow_the_published_schedule(epochs: int) -> None:
    factor = schedule("magic")
    for epoch in range(epochs + 3):
        assert factor(epoch, epochs) == pytest.approx(published_magic(epoch, epochs))


@pytest.mark.parametrize("epochs", [1, 5, 30, 99])
def test_short_trainings_leave_the_warm_up_and_cool_down(epochs: int) -> None:
    rates = [schedule("magic")(epoch, epochs) for epoch in range(epochs)]
    assert max(rates) > 0.9
    assert epochs < 5 or rates[-1] < 0.5


def test_cosine_goes_from_one_to_a_tenth() -> None:
    factor = schedule("cosine")
    assert factor(0, 300) == 1
    assert factor(150, 300) == pytest.approx(0.55)
    assert factor(300, 300) == pytest.approx(0.1)
    assert schedule("none")(7, 10) == 1


def test_an_unknown_schedule_is_refused() -> None:
    with pytest.raises(InputError, match=r"'linear'.*none, cosine, magic"):
        schedule("linear")
