"""From Hydra's command line to cells, without running them."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, flag_override

from benchmarks.budgets import TrainerConfig
from benchmarks.cell import Cell
from benchmarks.errors import InputError
from benchmarks.execution import Execution
from benchmarks.paths import conf_dir

CONFIG = "config"
"""Name of the primary configuration."""

NOT_OF_A_CELL = ("sweep", "budget", "launch", "hydra")
"""Parts of the configuration that are for Hydra and for launches alone."""


def cell_of(config: DictConfig) -> tuple[Cell, Execution]:
    """A composed configuration as plain values, checked.

    Raises:
        InputError: a value that cannot be.
        TypeError: a key that no option has.
    """
    plain: Any = {
        key: _resolved(config, key) for key in map(str, config) if key not in NOT_OF_A_CELL
    }
    execution = Execution(**{name: plain.pop(name) for name in Execution.names()})
    trainer = TrainerConfig(**plain.pop("trainer"))
    for name in ("data_root", "results_dir"):
        plain[name] = Path(plain[name])
    return Cell(trainer=trainer, **plain), execution


def _resolved(config: DictConfig, key: str) -> Any:
    value = config[key]
    if not OmegaConf.is_config(value):
        return value
    return OmegaConf.to_container(value, resolve=True, throw_on_missing=True)


@contextmanager
def composer(arguments: Sequence[str]) -> Iterator["Composer"]:
    """What composes configurations for a command line of `benchmarks.run`.

    Raises:
        InputError: a `--config-dir` that is not there, or a flag that Hydra alone would take.
    """
    given = get_args_parser().parse_intermixed_args(list(arguments))
    for option in ("config_path", "config_name", "experimental_rerun"):
        if getattr(given, option) is not None:
            flag = f"--{option.replace('_', '-')}"
            raise InputError(f"{flag} is not supported; give files of your own by --config-dir")
    search_path = create_config_search_path(f"file://{conf_dir()}")
    if given.config_dir is not None:
        if not Path(given.config_dir).is_dir():
            raise InputError(f"--config-dir={given.config_dir} is no folder")
        own = f"file://{Path(given.config_dir).resolve()}"
        search_path.prepend("command-line", own, anchor="schema")  # as hydra.main does
    before = copy.copy(GlobalHydra.instance().hydra)
    GlobalHydra.instance().clear()
    hydra = Hydra.create_main_hydra2(task_name="run", config_search_path=search_path)
    try:
        yield Composer(hydra.config_loader, tuple(given.overrides))
    finally:
        GlobalHydra.instance().clear()
        GlobalHydra.instance().hydra = before


class Composer:
    """Composes a sweep's own configuration and those of its cells.

    Hydra takes a tenth of a second for each. Cells that differ in single values and not in the
    files that are composed share one composition here, to which their values are applied as Hydra
    does it.

    Args:
        loader: of Hydra, with the search path of the command line.
        overrides: of the command line.
    """

    def __init__(self, loader: ConfigLoader, overrides: tuple[str, ...]):
        self.loader = loader
        self.sweep: DictConfig = loader.load_configuration(
            CONFIG, list(overrides), run_mode=RunMode.MULTIRUN
        )
        self._groups = {*loader.list_groups("")}
        self._parser = OverridesParser.create(config_loader=loader)
        self._composed = lru_cache(maxsize=64)(self._compose)

    def cell(self, overrides: Sequence[str]) -> tuple[Cell, Execution]:
        """The cell with these overrides.

        Raises:
            HydraException: what Hydra cannot compose.
            InputError: a value that cannot be.
            TypeError: a key that no option has.
        """
        parsed = self._parser.parse_overrides(list(overrides))
        values = [each for each in parsed if self._is_value(each)]
        shared = tuple(text for each in parsed if each not in values and (text := each.input_line))
        config = copy.deepcopy(self._composed(shared))
        try:
            for each in values:
                OmegaConf.update(config, each.key_or_group, each.value(), merge=True)
        except Exception:  # Hydra says better what is wrong with it
            config = self._compose(tuple(overrides))
        return cell_of(config)

    def _is_value(self, override: Override) -> bool:
        """Whether it sets a single value and chooses no file."""
        key = override.key_or_group
        plain = not (override.is_add() or override.is_force_add() or override.is_delete())
        return plain and override.package is None and not self._is_group(key)

    def _is_group(self, key: str) -> bool:
        return "/" in key or key in self._groups

    def _compose(self, overrides: tuple[str, ...]) -> DictConfig:
        config = self.loader.load_sweep_config(self.sweep, list(overrides))
        with flag_override(config, ["struct", "readonly"], [False, False]):
            del config["hydra"]
        return config
