"""What a command line sweeps over: grids of an experiment, multiplied out to cells."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from benchmarks.errors import InputError
from benchmarks.paths import conf_dir

MULTIRUN = frozenset({"-m", "--multirun"})


def expand_experiment(arguments: Sequence[str]) -> list[list[str]]:
    """Adds what `experiment=…` sweeps over, except what the command line sets itself.

    Returns:
        A command line for each grid of the experiment, or the one that was given.

    Raises:
        InputError: an unknown experiment, or a sweep that is launched without `-m`.
    """
    name = value_of(arguments, "experiment")
    if name in (None, "null"):
        return [list(arguments)]
    sweep = read_experiment(str(name), config_dirs(arguments)).get("sweep") or {}
    launches = []
    for grid, given in _chosen(sweep if isinstance(sweep, list) else [sweep], arguments):
        added = {key: values for key, values in grid.items() if value_of(arguments, key) is None}
        if added and not MULTIRUN & set(arguments):
            raise InputError(
                f"experiment={name} is a sweep over {', '.join(grid)}: launch it with -m, or give "
                f"one value for {', '.join(added)}"
            )
        overrides = (f"{key}={','.join(map(str, values))}" for key, values in added.items())
        launches.append([*given, *overrides])
    return launches


def _chosen(
    grids: Sequence[dict[str, Any]], arguments: Sequence[str]
) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """The grids that the command line is about, each with the command line that is its own.

    Of what is given for a key, each grid takes the values that it has, and a grid that has none of
    them is left out. Values that no grid has are for all grids that sweep the key.

    Raises:
        InputError: no grid has all of what is given.
    """
    keys = dict.fromkeys(key for grid in grids for key in grid)
    given = {key: value_of(arguments, key) for key in keys}
    wanted = {key: _values(key, text) for key, text in given.items() if text is not None}
    known = {
        key: {str(value) for grid in grids for value in grid.get(key, ())} & set(values)
        for key, values in wanted.items()
    }
    found = False
    for grid in grids:
        own = list(arguments)
        for key, values in wanted.items():
            own_values = {str(value) for value in grid.get(key, ())}
            shared = [value for value in values if value in own_values or value not in known[key]]
            if key not in grid or not shared:
                break
            if known[key]:
                own = [a for a in own if a.partition("=")[0].lstrip("+") != key]
                own.append(f"{key}={','.join(shared)}")
        else:
            found = True
            yield grid, own
    if wanted and not found:
        asked = " and ".join(f"{key}={','.join(values)}" for key, values in wanted.items())
        raise InputError(f"no grid of the experiment has {asked}; it sweeps over {_axes(grids)}")


def _axes(grids: Sequence[dict[str, Any]]) -> str:
    """What grids sweep over, for messages."""
    lines = (
        "; ".join(f"{key}={','.join(map(str, values))}" for key, values in grid.items())
        for grid in grids
    )
    return ", or ".join(lines)


def _values(key: str, given: str) -> list[str]:
    """The values that the command line gives for a key, as Hydra reads them."""
    override = OverridesParser.create().parse_override(f"{key}={given}")
    if not override.is_sweep_override():
        return [override.get_value_element_as_str()]
    return list(override.sweep_string_iterator())


def read_experiment(name: str, folders: Sequence[Path]) -> dict[str, Any]:
    """The YAML of an experiment, uncomposed.

    Raises:
        InputError: no such experiment in any of the folders.
    """
    for folder in folders:
        path = folder / "experiment" / f"{name}.yaml"
        if path.exists():
            content: Any = OmegaConf.to_container(OmegaConf.load(path))
            return dict(content or {})
    known = sorted({path.stem for folder in folders for path in folder.glob("experiment/*.yaml")})
    raise InputError(f"experiment={name} is unknown; choose from {', '.join(known)}")


def value_of(arguments: Sequence[str], key: str) -> str | None:
    """What the command line sets `key` to; the last one counts."""
    values = [a.partition("=")[2] for a in arguments if a.partition("=")[0].lstrip("+") == key]
    return values[-1] if values else None


def config_dirs(arguments: Sequence[str]) -> list[Path]:
    """The user's `--config-dir`, if any, and the suite's."""
    own = []
    for flag, following in zip(arguments, [*arguments[1:], ""], strict=False):
        name, _, value = flag.partition("=")
        if name in ("--config-dir", "-cd"):
            own.append(Path(value or following))
    return [*own, conf_dir()]


def cells_of(overrides: Sequence[str]) -> list[list[str]]:
    """Multiplies out what is swept over: the overrides of each cell, the last key fastest.

    Raises:
        HydraException: an override that cannot be parsed, or a range without end.
    """
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    (cells,) = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    return cells


def task_overrides(arguments: Sequence[str]) -> list[str]:
    """The overrides of a command line that are no flags and not about Hydra itself."""
    given: Sequence[str] = get_args_parser().parse_intermixed_args(list(arguments)).overrides
    return [each for each in given if not each.lstrip("+~").startswith(("hydra.", "hydra/"))]
