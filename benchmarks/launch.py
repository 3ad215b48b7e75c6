"""Hydra's side of a run: from the command line to cells, and what is left to do after them."""

import logging
import math
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import CompactHydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from benchmarks.atomic import require_writable
from benchmarks.budgets import TrainerConfig
from benchmarks.cell import Cell, describe
from benchmarks.errors import InputError
from benchmarks.launchers import prepare_launcher
from benchmarks.paths import conf_dir
from benchmarks.rows import assemble

log = logging.getLogger(__name__)

MULTIRUN = frozenset({"-m", "--multirun"})

INFORMATION = frozenset({"--help", "-h", "--hydra-help", "--cfg", "-c", "--info", "-i"})
"""Flags with which Hydra prints something and runs nothing."""

SOME_FAILED = 3
"""Exit code when cells failed and the others were done."""


class NoteFolder(Callback):
    """Remembers where the launch writes: Hydra alone knows the composed configuration."""

    folder: Path | None = None

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Before a single cell."""
        NoteFolder.folder = Path(config.results_dir) / config.name

    on_multirun_start = on_run_start


def launch(arguments: Sequence[str]) -> int:
    """Runs what the command line asks for, then assembles the experiment's table.

    Returns:
        The exit code: 0, 1 if a cell was refused, or 3 if a cell of this launch failed.

    Raises:
        InputError: an unknown experiment, a launcher whose extra is absent, or a results folder
            that cannot be written.
    """
    log_to_stderr()
    if not INFORMATION & {argument.partition("=")[0] for argument in arguments}:
        require_writable(Path(_value(arguments, "results_dir") or "results"), "results_dir")
        prepare_launcher(_value(arguments, "hydra/launcher"), bool(MULTIRUN & set(arguments)))
    started = datetime.now(UTC).isoformat(timespec="seconds")
    run = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(job)
    refused = 0
    try:
        for command_line in _numbered(expand_experiment(arguments)):
            sys.argv[1:] = command_line
            try:
                run()
            except SystemExit as stop:  # a grid with a cell that was refused stops no other grid
                refused = max(refused, int(stop.code or 0))
    finally:
        failed = _finish(NoteFolder.folder, started) if NoteFolder.folder else 0
    return refused or (SOME_FAILED if failed else 0)


def job(config: DictConfig) -> str:
    """Hydra's task function: one cell.

    Returns:
        The status of its row.
    """
    log_to_stderr()
    plain: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    del plain["sweep"], plain["budget"]
    total, number = plain.pop("cells"), plain.pop("cells_before") + _job_number() + 1
    try:
        trainer = TrainerConfig(**plain.pop("trainer"))
        for name in ("data_root", "results_dir"):
            plain[name] = Path(plain[name])
        cell = Cell(trainer=trainer, **plain)
        from benchmarks.execute import run_cell  # and torch with it: seconds, for good input only

        if total > 1:
            log.info("[%d/%d] %s", number, total, describe(cell.identity("", "")))
        return str(run_cell(cell)["status"])
    except (InputError, TypeError) as error:  # TypeError: a key that no option has
        raise CompactHydraException(f"error: {error}") from error


def _job_number() -> int:
    """Position in the sweep, from 0; a single run has none."""
    job: Any = HydraConfig.get().job
    return int(job.get("num", 0))


def expand_experiment(arguments: Sequence[str]) -> list[list[str]]:
    """Adds what `experiment=…` sweeps over, except what the command line sets itself.

    Returns:
        A command line for each grid of the experiment, or the one that was given.

    Raises:
        InputError: an unknown experiment, or a sweep that is launched without `-m`.
    """
    name = _value(arguments, "experiment")
    if name in (None, "null"):
        return [list(arguments)]
    sweep = read_experiment(str(name), _config_dirs(arguments)).get("sweep") or {}
    launches = []
    for grid, given in _chosen(sweep if isinstance(sweep, list) else [sweep], arguments):
        added = {key: values for key, values in grid.items() if _value(arguments, key) is None}
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
    """
    keys = dict.fromkeys(key for grid in grids for key in grid)
    given = {key: _value(arguments, key) for key in keys}
    wanted = {key: value.split(",") for key, value in given.items() if value is not None}
    known = {
        key: any(set(values) & set(map(str, grid.get(key, ()))) for grid in grids)
        for key, values in wanted.items()
    }
    for grid in grids:
        own = list(arguments)
        for key, values in wanted.items():
            shared = [value for value in values if value in map(str, grid.get(key, ()))]
            if key not in grid or (known[key] and not shared):
                break
            if known[key]:
                own = [a for a in own if a.partition("=")[0].lstrip("+") != key]
                own.append(f"{key}={','.join(shared)}")
        else:
            yield grid, own


def _numbered(launches: Sequence[list[str]]) -> Iterator[list[str]]:
    """Tells each launch of a sweep how many cells there are, and how many come before it."""
    counts = [count_cells(launch) for launch in launches]
    for i, launch in enumerate(launches):
        sweep = [f"cells={sum(counts)}", f"cells_before={sum(counts[:i])}"]
        yield [*launch, *sweep] if MULTIRUN & set(launch) else launch


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


def count_cells(arguments: Sequence[str]) -> int:
    """How many cells the command line asks for."""
    if not MULTIRUN & set(arguments):
        return 1
    overrides = OverridesParser.create().parse_overrides(
        [argument for argument in arguments if "=" in argument and not argument.startswith("-")]
    )
    return math.prod(
        len(list(override.sweep_string_iterator()))
        for override in overrides
        if override.is_sweep_override()
    )


def log_to_stderr() -> None:
    """Messages of the suite, bare, on standard error; a worker process needs this anew."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    suite = logging.getLogger("benchmarks")
    if not suite.handlers:
        suite.addHandler(handler)
        suite.setLevel(logging.INFO)


def _finish(folder: Path, started: str) -> int:
    table = assemble(folder)
    new = table[table["finished"] >= started]
    failed = new[~new["status"].isin(["done", "skipped"])]
    log.info(
        "%s: %d of %d rows done", folder / "runs.csv", (table.status == "done").sum(), len(table)
    )
    for row in failed.to_dict("records"):
        log.error("  %s on %s: %s: %s", row["model"], row["dataset"], row["status"], row["reason"])
    return len(failed)


def _value(arguments: Sequence[str], key: str) -> str | None:
    """What the command line sets `key` to; the last one counts."""
    values = [a.partition("=")[2] for a in arguments if a.partition("=")[0].lstrip("+") == key]
    return values[-1] if values else None


def _config_dirs(arguments: Sequence[str]) -> list[Path]:
    """The user's `--config-dir`, if any, and the suite's."""
    own = []
    for flag, following in zip(arguments, [*arguments[1:], ""], strict=True):
        name, _, value = flag.partition("=")
        if name in ("--config-dir", "-cd"):
            own.append(Path(value or following))
    return [*own, conf_dir()]
