"""All checks of a dataset on disk, as `python -m benchmarks.data verify` shows them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.data.authenticity import Check, check_file, check_series
from benchmarks.data.files import existing_file
from benchmarks.data.loading import call_loader
from benchmarks.errors import InputError


def verify(dataset_cfg: Mapping[str, Any], data_root: Path) -> list[Check]:
    """Check the identity of known files, that the data can be read, and the expected facts."""
    checks = []
    for role, sources in (dataset_cfg.get("sources") or {}).items():
        used = existing_file(dataset_cfg["name"], data_root, dataset_cfg["loader"].get(role) or ())
        for source in sources:
            if used is not None and source["file"] == used.name:
                checks += check_file(used, source)
    try:
        series = call_loader(dataset_cfg, data_root)
    except InputError as error:
        return [*checks, Check("reading", False, str(error))]
    missing = f"{series.missing_rate:.2%} missing, {series.time[0]} to {series.time[-1]}"
    checks.append(Check("reading", True, f"{missing}, fingerprint {series.fingerprint}"))
    return checks + check_series(series, dataset_cfg.get("expected"))
