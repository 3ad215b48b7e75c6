"""PyPOTS's imputers under the suite's protocol; without PyPOTS installed they are skipped."""

import dataclasses
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_series import MODELS, SENSORS, WINDOW, model_config, poisoned, small_setting

from benchmarks.budgets import TrainerConfig, WindowedTraining
from benchmarks.errors import InputError
from benchmarks.fit import Fitted
from benchmarks.methods import Setting, build
from benchmarks.windowed import fit_windowed

pytestmark = pytest.mark.skipif(
    find_spec("pypots") is None, reason="PyPOTS is not installed: pip install '.[pypots]'"
)

NAMES = [name for name in MODELS if name.startswith("pypots/")]

SMALL = {
    "n_layers": 1, "n_heads": 1, "n_temporal_heads": 1, "n_channels": 8, "n_kernels": 2,
    "n_diffusion_steps": 4, "rnn_hidden_size": 8, "d_model": 8, "d_k": 8, "d_v": 8, "d_ffn": 8,
    "d_time_embedding": 8, "d_feature_embedding": 4, "d_diffusion_embedding": 8,
    "d_input_embed": 8, "d_learnable_embed": 8, "d_proj": 4,
}  # fmt: skip
"""Sizes with which an imputer trains in a moment."""

TRAINER = TrainerConfig(
    max_epochs=2, batches_per_epoch=2, batch_size=None, validation_stride=12,
    eval_batch_size=32, precision="auto", accelerator="cpu", threads=1, progress=False,
)  # fmt: skip


def small_config(name: str, **changes: Any) -> dict[str, Any]:
    config = model_config(name)
    network = config["network"]
    network["parameters"] |= {k: v for k, v in SMALL.items() if k in network["parameters"]}
    if "samples" in network:
        network["samples"] = 3
    return {**config, "network": network | changes}


def train(config: dict[str, Any], setting: Setting) -> Fitted:
    training = WindowedTraining(**{**config["training"], "batch_size": 4})
    return fit_windowed(build(config, setting), training, setting, TRAINER)


@pytest.mark.parametrize("name", NAMES)
def test_every_configuration_trains_silently(
    name: str, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    setting = small_setting()
    build(model_config(name), setting)  # the parameters of the file itself
    fitted = train(small_config(name), setting)
    test = setting.split.steps(setting.split.test)
    assert np.isfinite(fitted.filled[test]).all()
    assert np.isfinite(fitted.scores.window.total().scores()["mae"])
    assert fitted.facts["n_params"] > 0
    assert fitted.facts["epochs"] == 2
    assert 1 <= fitted.facts["best_epoch"] <= 2
    assert list(tmp_path.iterdir()) == []
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "")


@pytest.mark.parametrize("name", ["pypots/csdi", "pypots/brits"])
def test_no_imputer_sees_a_held_out_value(name: str) -> None:
    """Those of the validation windows choose the best epoch; no other is read."""
    setting, config = small_setting(), small_config(name)
    clean = train(config, setting)
    for poison in (1e6, float("nan")):
        spoilt = poisoned(setting, poison, slice(0, setting.split.validation[0]))
        spoilt = poisoned(spoilt, poison, slice(setting.split.test[0], None))
        got = train(config, spoilt)
        np.testing.assert_array_equal(got.filled, clean.filled)
        assert got.facts["val_mae"] == clean.facts["val_mae"]
    other = train(config, dataclasses.replace(setting, seed=1))
    assert not np.array_equal(other.filled, clean.filled)


def test_a_training_makes_it_better() -> None:
    setting, config = small_setting(), small_config("pypots/timesnet")
    config["training"]["learning_rate"] = 1e-2
    errors = []
    for epochs in (1, 25):
        training = WindowedTraining(**config["training"])
        trainer = dataclasses.replace(TRAINER, max_epochs=epochs, batches_per_epoch=5)
        fitted = fit_windowed(build(config, setting), training, setting, trainer)
        errors.append(fitted.scores.step.total().scores()["mae"])
    assert errors[1] < 0.8 * errors[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"imputer": "pypots.imputation.Oracle"}, r"Oracle is unknown.*SAITS"),
        ({"imputer": "pypots.oracle.Oracle"}, r"pypots\.oracle"),
        ({"parameters": {"magic": 1}}, r"takes no magic.*rnn_hidden_size"),
        ({"parameters": {"epochs": 3}}, r"takes no epochs.*rnn_hidden_size"),
        ({"samples": 5}, r"samples=5.*does not"),
    ],
)
def test_what_an_imputer_does_not_take_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(small_config("pypots/brits", **changes), small_setting())


def test_what_pypots_would_replace_is_refused() -> None:
    config = small_config("pypots/saits")
    config["network"]["parameters"] |= {"d_model": 10}
    with pytest.raises(ValueError, match="replaces d_model=10 by 8"):
        train(config, small_setting())


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError("out of luck")])
def test_what_stops_a_training_is_raised(error: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyPOTS alone would log it and score the best epoch so far."""
    from pypots.imputation.brits.core import _BRITS

    forward, calls = _BRITS.forward, iter(range(1000))

    def stops(self: Any, *arguments: Any, **options: Any) -> Any:
        if next(calls) == 5:  # in the second epoch
            raise error
        return forward(self, *arguments, **options)

    monkeypatch.setattr(_BRITS, "forward", stops)
    kind = error if isinstance(error, type) else type(error)
    with pytest.raises(kind):
        train(small_config("pypots/brits"), small_setting())


SCRIPT = """
import numpy as np
from baselines.pypots_adapter import PyPOTSImputer

method = PyPOTSImputer({sensors}, {window}, 0, "pypots.imputation.BRITS", {{"rnn_hidden_size": 4}})
x = np.random.default_rng(0).normal(size=(8, {window}, {sensors})).astype(np.float32)
x[:, ::3] = np.nan
facts = method.fit(
    x, x[:2], np.nan_to_num(x[:2]), epochs=1, batch_size=4, learning_rate=1e-3, weight_decay=0.0,
    patience=1, device="cpu",
)
assert facts["epochs"] == 1 and np.isfinite(method.impute(x)).all()
"""


def test_a_fresh_process_prints_nothing_and_leaves_the_home_folder_alone(tmp_path: Path) -> None:
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(sensors=SENSORS, window=WINDOW)],
        cwd=work, capture_output=True, text=True, check=False, timeout=300,
        env=os.environ | {"HOME": str(home), "PYTHONPATH": root, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(work.iterdir()) == []
    assert list(home.iterdir()) == []
