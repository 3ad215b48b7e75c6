"""`python -m benchmarks.data list | verify NAME | fetch NAME`: the datasets on this machine."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.data.catalog import dataset_config, dataset_names
from benchmarks.data.files import VARIABLE, default_data_root, existing_file
from benchmarks.errors import InputError

ROLES = ("values", "distances", "coordinates")
COLUMNS = ("name", "steps x sensors", "period", "unit", "zeros", "on disk", "what")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code: 0 good, 1 data bad or absent, 2 wrong usage."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def list_datasets(arguments: argparse.Namespace) -> int:
    """Print a table of all datasets."""
    rows = [COLUMNS]
    for name in dataset_names():
        config = dataset_config(name)
        expected = config.get("expected") or {}
        shape = " x ".join(str(size) for size in expected.get("shape", ("?",)))
        period = f"{expected.get('start', '?')} - {expected.get('end', '?')}"
        state = _state(config, arguments.data_root)
        unit, zeros = str(config.get("unit", "?")), str(config.get("zeros", "?"))
        rows.append((name, shape, period, unit, zeros, state, str(config.get("title", ""))))
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())
    print(f"\ndata folder: {arguments.data_root} (--data-root or {VARIABLE})")
    return 0


def verify_dataset(arguments: argparse.Namespace) -> int:
    """Print each check of one dataset; 1 if any failed."""
    config = dataset_config(arguments.name)
    from benchmarks.data.verify import verify  # pandas only here

    checks = verify(config, arguments.data_root)
    for check in checks:
        print(f"{'ok    ' if check.ok else 'FAILED'}  {check.label}: {check.detail}")
    passed = all(check.ok for check in checks)
    print(f"{arguments.name}: {'verified' if passed else 'NOT verified'}")
    return 0 if passed else 1


def fetch_dataset(arguments: argparse.Namespace) -> int:
    """Fetch what is missing of one dataset, then verify it; 1 if either failed."""
    config = dataset_config(arguments.name)
    if config.get("simulated"):
        print(f"{arguments.name} ships with the package: nothing to fetch")
        return 0
    from benchmarks.data.fetch import fetch  # pooch only here

    if not fetch(config, arguments.data_root, lambda line: print(line, flush=True)):
        return 1
    status = verify_dataset(arguments)
    if status:
        folder = arguments.data_root / arguments.name
        print(f"remove the wrong file from {folder} to fetch it again")
    return status


def _state(config: Mapping[str, Any], data_root: Path) -> str:
    if config.get("simulated"):
        return "simulated, ships with the package"
    name, loader = config["name"], config["loader"]
    wanted = [role for role in ROLES if loader.get(role)]
    absent = [role for role in wanted if existing_file(name, data_root, loader[role]) is None]
    if not wanted:
        return "known to its loader only"
    if not absent:
        return "present"
    return "missing" if len(absent) == len(wanted) else f"missing: {', '.join(absent)}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.data", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for run, word, about in (
        (list_datasets, "list", "table of the datasets and what is on disk"),
        (verify_dataset, "verify", "check that a dataset on disk is the real one"),
        (fetch_dataset, "fetch", "download the public files of a dataset"),
    ):
        command = commands.add_parser(word, help=about, description=about)
        if run is not list_datasets:
            command.add_argument("name", metavar="NAME", help="a name shown by `list`")
        command.add_argument(
            "--data-root",
            type=Path,
            default=default_data_root(),
            help=f"folder of the datasets (default: {VARIABLE}, else data/)",
        )
        command.set_defaults(run=run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
