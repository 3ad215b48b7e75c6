"""Imputers of PyPOTS under this suite's protocol.

Du, Yang, Qian, Wang, Wen. PyPOTS: A Python Toolkit for Machine Learning on Partially-Observed
Time Series. 2023. arXiv:2305.18811 (github.com/WenjieDu/PyPOTS). The imputers themselves are cited
in `conf/model/pypots/`.

Deviations from PyPOTS's defaults: the best epoch is chosen by the mean absolute error on the
held-out validation readings, as everywhere in the suite, for the imputers that let one choose (not
CSDI, GP-VAE and USGAN, which use their own loss); an exception in the middle of a training is
raised, not logged; nothing is printed and nothing is written, neither to the home folder nor to
the working directory.
"""

import importlib
import inspect
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from jaxtyping import Float

log = logging.getLogger(__name__)

PYPOTS_LOGGER = "PyPOTS running log"
"""Name of the logger of PyPOTS 1.5 (pypots/utils/logging.py)."""

SET_BY_SUITE = (
    "n_steps", "n_features", "batch_size", "epochs", "patience", "device", "saving_path",
    "model_saving_strategy",
)  # fmt: skip
"""Constructor arguments that come from the data, the budget and the hardware."""


class PyPOTSImputer:
    """An imputer of PyPOTS.

    Args:
        n_nodes: sensors.
        window: steps in a window.
        seed: of initial weights, batches, artificial masks and samples.
        imputer: the class, such as "pypots.imputation.CSDI".
        parameters: what its constructor takes besides what the suite sets.
        samples: imputations drawn for each window; their median is the estimate. Above 1 only
            for imputers that sample (CSDI, GP-VAE).

    Raises:
        ValueError: no such imputer, or a parameter that it does not take.
    """

    def __init__(
        self,
        n_nodes: int,
        window: int,
        seed: int,
        imputer: str,
        parameters: Mapping[str, Any],
        samples: int = 1,
    ):
        self.n_nodes, self.window, self.seed = n_nodes, window, seed
        self.name, self.parameters, self.samples = imputer, dict(parameters), samples
        self._class = load_imputer(imputer)
        self._check_arguments()
        self._imputer: Any = None

    def fit(
        self,
        train: Float[np.ndarray, "b t n"],
        validation: Float[np.ndarray, "v t n"],
        validation_truth: Float[np.ndarray, "v t n"],
        *,
        epochs: int,
        batch_size: int,
        learning_rate: float,
        weight_decay: float,
        patience: int,
        device: str,
    ) -> dict[str, Any]:
        """Trains a new imputer and goes back to its best epoch.

        Args:
            train: training windows, scaled, NaN where not visible.
            validation: validation windows, scaled, NaN where not visible.
            validation_truth: the same with the held-out readings, NaN where there is none.
            epochs: at most.
            batch_size: windows in a batch.
            learning_rate: of Adam, for each of the imputer's optimizers.
            weight_decay: of Adam.
            patience: epochs without a better validation error after which training ends.
            device: "cpu" or "cuda".

        Returns:
            `n_params`, `epochs` that were trained and the `best_epoch`.
        """
        given = {
            "n_steps": self.window,
            "n_features": self.n_nodes,
            "batch_size": batch_size,
            "epochs": epochs,
            "patience": min(patience, epochs),
            "device": device,
            "saving_path": None,
            "model_saving_strategy": None,
            "validation_metric": importlib.import_module("pypots.nn.modules.loss").MAE,
        }
        adam = importlib.import_module("pypots.optim").Adam
        taken = inspect.signature(self._class).parameters
        arguments = {name: value for name, value in given.items() if name in taken}
        for name in filter(_is_optimizer, taken):
            arguments[name] = adam(lr=learning_rate, weight_decay=weight_decay)
        with _contained():
            importlib.import_module("pypots.utils.random").set_random_seed(self.seed)
            self._imputer = self._class(**arguments | self.parameters)
            self._check_kept()
            self._imputer.fit({"X": train}, {"X": validation, "X_ori": validation_truth})
        best = self._imputer.best_epoch
        return {
            "n_params": self._imputer.num_params,
            "epochs": min(epochs, best + min(patience, epochs)),
            "best_epoch": best,
        }

    def impute(self, windows: Float[np.ndarray, "b t n"]) -> Float[np.ndarray, "b t n"]:
        """Estimates for every entry of `windows`, scaled, NaN where not visible."""
        options = {"n_sampling_times": self.samples} if self.samples > 1 else {}
        self._imputer.batch_size = len(windows)
        with _contained():
            imputed = self._imputer.predict({"X": windows}, **options)["imputation"]
        return np.median(imputed, axis=1) if imputed.ndim == 4 else imputed  # [b sample t n]

    def _check_arguments(self) -> None:
        taken = inspect.signature(self._class).parameters
        free = [n for n in taken if n not in SET_BY_SUITE and not _is_optimizer(n)]
        wrong = sorted(set(self.parameters) - set(free))
        if wrong:
            raise ValueError(
                f"{self.name} takes no {', '.join(wrong)} here; choose from {', '.join(free)}"
            )
        samplers = inspect.signature(self._class.predict).parameters
        if self.samples != 1 and (self.samples < 1 or "n_sampling_times" not in samplers):
            raise ValueError(
                f"samples={self.samples} must be 1, or more for an imputer that samples, which "
                f"{self.name} {'does' if 'n_sampling_times' in samplers else 'does not'}"
            )

    def _check_kept(self) -> None:
        """PyPOTS replaces what does not fit together and only logs it; that is an error here."""
        for name, value in self.parameters.items():
            kept = getattr(self._imputer, name, value)
            if isinstance(value, (bool, int, float, str)) and kept != value:
                raise ValueError(
                    f"{self.name} replaces {name}={value} by {kept}; give that instead"
                )


def load_imputer(path: str) -> Any:
    """The class named by `path`, without PyPOTS's banner and its folder in the home folder.

    Raises:
        ValueError: no such class.
    """
    module, _, name = path.rpartition(".")
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with _contained():
            if "tsdb" not in sys.modules:  # PyPOTS's data package, which creates ~/.pypots
                with TemporaryDirectory() as home, _home(home):
                    importlib.import_module("tsdb")
            loaded = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ValueError(f"imputer={path}: {error}") from error
    finally:
        logging.disable(disabled)
    logger = logging.getLogger(PYPOTS_LOGGER)
    if not any(isinstance(handler, _Relay) for handler in logger.handlers):
        logger.handlers[:] = [_Relay()]
    if not hasattr(loaded, name):
        choices = ", ".join(getattr(loaded, "__all__", ()))
        raise ValueError(f"imputer={path} is unknown; {module} has {choices}")
    return getattr(loaded, name)


class _Relay(logging.Handler):
    """Passes what PyPOTS logs on as debugging messages, and raises what it swallows.

    PyPOTS catches whatever stops a training, Ctrl-C included, logs it, and goes on with the best
    epoch so far.
    """

    def emit(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if error is not None and record.levelno >= logging.WARNING:
            raise error
        log.debug("%s", record.getMessage())


def _is_optimizer(parameter: str) -> bool:
    return parameter.endswith("optimizer")


@contextmanager
def _home(folder: str) -> Iterator[None]:
    """Makes `folder` the home folder for as long as it takes."""
    names = ("HOME", "USERPROFILE")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, folder))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _contained() -> Iterator[None]:
    """Keeps what is printed, and warnings about code that is not ours, from the user."""
    printed = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with redirect_stdout(printed), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
