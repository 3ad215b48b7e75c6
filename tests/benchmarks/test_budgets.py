"""Bad values of how a method is trained."""

import pytest

from benchmarks.budgets import TrainingConfig, WindowedTraining
from benchmarks.errors import InputError


@pytest.mark.parametrize("kind", [TrainingConfig, WindowedTraining])
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("batch_size", 0, "batch_size=0 must be at least 1"),
        ("patience", -1, "patience=-1 must be at least 1"),
        ("learning_rate", 0.0, "learning_rate=0.0 must be above 0"),
    ],
)
def test_bad_values_are_named(kind, name: str, value: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        kind(**({"batch_size": 4, "learning_rate": 0.1} | {name: value}))


@pytest.mark.parametrize(
    ("whiten", "message"), [([], "whiten is empty"), ([0.2, 1.0], "whiten has 1.0")]
)
def test_whitening_needs_probabilities(whiten: list[float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TrainingConfig(batch_size=4, learning_rate=0.1, whiten=whiten)
