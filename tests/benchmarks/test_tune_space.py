"""Search spaces: every trained method has one, and whatever is drawn can be built."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from omegaconf import OmegaConf
from small_series import MODELS, composed, model_config, small_setting

from benchmarks.errors import InputError
from benchmarks.methods import TRAINED, build
from benchmarks.paths import conf_dir
from benchmarks.tune.space import Space, as_overrides, read_space

TRAINABLE = [
    name
    for name in MODELS
    if not name.startswith("tuned/") and model_config(name)["kind"] in TRAINED
]

FAMILIES = ("metr_la", "pems_bay", "pems04", "pems08")
"""Datasets for which a published configuration may have values of its own, under `paper:`."""


def ends(space: Space) -> dict[str, dict[str, Any]]:
    """The lowest and the highest of everything that is drawn."""
    drawn = space.distributions()
    low, high = {}, {}
    for name, each in drawn.items():
        if isinstance(each, optuna.distributions.CategoricalDistribution):
            low[name], high[name] = each.choices[0], each.choices[-1]
        else:
            assert isinstance(
                each, (optuna.distributions.IntDistribution, optuna.distributions.FloatDistribution)
            )
            low[name], high[name] = each.low, each.high
    return {"low": low, "high": high}


def test_every_trained_method_has_a_space_and_no_other() -> None:
    spaces = {
        path.relative_to(conf_dir() / "tune").with_suffix("").as_posix()
        for path in conf_dir().glob("tune/**/*.yaml")
    }
    assert spaces == set(TRAINABLE)


@pytest.mark.parametrize("end", ["low", "high"])
@pytest.mark.parametrize("name", TRAINABLE)
def test_the_ends_of_a_space_can_be_built(name: str, end: str) -> None:
    if name.startswith("pypots/"):
        pytest.importorskip("pypots")
    space = read_space(name, [conf_dir()])
    values = space.values(ends(space)[end])
    config = model_config(name, *as_overrides(values))
    for key, value in values.items():
        assert OmegaConf.select(OmegaConf.create({"model": config}), key) == value
    assert build(config, small_setting(time_features=config["time_features"])) is not None


@pytest.mark.parametrize("name", TRAINABLE)
def test_the_default_of_every_dataset_can_be_drawn(name: str) -> None:
    space = read_space(name, [conf_dir()])
    for dataset in ("simulated", *(FAMILIES if "paper" in model_config(name) else ())):
        config = composed(f"model={name}", f"dataset={dataset}")
        drawn = space.defaults(config)
        assert drawn is not None, dataset
        for key, value in space.values(drawn).items():
            assert OmegaConf.select(OmegaConf.create(config), key) == value


def test_budgets_are_not_varied() -> None:
    """Equal budgets: a trial of any method has the trainer's epochs, batches and batch size."""
    for name in TRAINABLE:
        for key in read_space(name, [conf_dir()]).keys:
            assert key.startswith(("model.network.", "model.training."))
            assert key not in ("model.training.batch_size", "model.training.patience")


LINES = {
    "model.network.heads": {"choice": [1, 2, 4]},
    "width": {"int": [4, 16], "step": 4},
    "model.network.d": {"product": ["model.network.heads", "width"]},
    "model.training.rate": {"float": [1e-4, 1e-1], "log": True},
    "model.training.whiten": {"choice": [[0.2, 0.5], [0.2]]},
}


def test_values_are_those_of_the_configuration() -> None:
    space = Space("x", LINES)
    drawn = {
        "model.network.heads": 4,
        "width": 8,
        "model.training.rate": 0.00123456789,
        "model.training.whiten": "[0.2, 0.5]",
    }
    values = space.values(drawn)
    assert values == {
        "model.network.heads": 4,
        "model.network.d": 32,
        "model.training.rate": 0.001235,
        "model.training.whiten": [0.2, 0.5],
    }
    assert "model.training.whiten=[0.2, 0.5]" in as_overrides(values)
    config: dict[str, Any] = {
        "network": {"heads": 4, "d": 32},
        "training": {"rate": 0.001, "whiten": [0.2]},
    }
    assert space.defaults({"model": config}) == {
        "model.network.heads": 4,
        "width": 8,
        "model.training.rate": 0.001,
        "model.training.whiten": "[0.2]",
    }
    for outside in ({"heads": 3, "d": 24}, {"heads": 4, "d": 24}, {"heads": 4, "d": 34}):
        assert space.defaults({"model": config | {"network": outside}}) is None
    with pytest.raises(InputError, match=r"model.network.d is no key"):
        space.defaults({"model": {"network": {"heads": 1}, "training": {}}})


BAD_LINES = {
    "no distribution": ({"log": True}, "must have one of int, float, choice, product"),
    "two": ({"int": [1, 2], "choice": [1]}, "must have one of"),
    "a number": (3, "must have one of"),
    "unknown detail": ({"choice": [1], "log": True}, "log is unknown here"),
    "one end": ({"int": [1]}, "needs a list"),
    "upside down": ({"int": [4, 1]}, "low must be below high"),
    "log of zero": ({"float": [0, 1], "log": True}, "above 0"),
    "half an integer": ({"int": [0.5, 2]}, "two numbers"),
    "log and step": ({"int": [1, 8], "log": True, "step": 2}, "exclude"),
    "product of nothing": ({"product": ["a", "b"]}, "a, b is not drawn here"),
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_a_malformed_line_is_named(case: str) -> None:
    line, message = BAD_LINES[case]
    with pytest.raises(InputError, match=message) as raised:
        Space("x", {"model.network.k": line})  # type: ignore[dict-item]
    assert "model.network.k" in str(raised.value)


def test_a_space_of_ones_own_comes_first(tmp_path: Path) -> None:
    (tmp_path / "tune").mkdir()
    (tmp_path / "tune/psan.yaml").write_text("model.network.n_layers: {int: [1, 2]}\n")
    assert read_space("psan", [tmp_path, conf_dir()]).keys == ["model.network.n_layers"]
    with pytest.raises(InputError, match=r"model=linear has no search space.*choose from.*psan"):
        read_space("linear", [tmp_path, conf_dir()])
    with pytest.raises(InputError, match=r"model=oracle is unknown; choose from.*psan"):
        read_space("oracle", [conf_dir()])
