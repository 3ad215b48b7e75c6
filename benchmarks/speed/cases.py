"""What is measured: methods and sizes, from a YAML file."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from benchmarks.errors import InputError

SIZES = ("batch", "sensors", "window")
"""Keys of a case; every other key is an option of the method's network."""


@dataclass(frozen=True)
class Case:
    """A method and the size of its problem."""

    method: str
    batch: int
    sensors: int
    window: int
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in SIZES:
            size = getattr(self, name)
            if not isinstance(size, int) or size < 1:
                raise InputError(f"{name}={size!r} of {self.method} must be a whole number above 0")

    @property
    def network(self) -> str:
        """Options of the network other than the paper's, in a few words."""
        return " ".join(f"{name}={value}" for name, value in sorted(self.options.items()))

    @property
    def name(self) -> str:
        """The case in a few words; no two cases share it."""
        sizes = f"batch {self.batch}, {self.sensors} sensors, {self.window} steps"
        return f"{self.method}, {sizes}" + (f", {self.network}" if self.options else "")


def read_cases(path: Path) -> list[Case]:
    """The cases of a file, each once.

    Raises:
        InputError: no such file, or one that is not laid out as `conf/speed.yaml` is.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        reference, methods = content["reference"], content["methods"]
        found = [
            Case(method=method, **_sizes({**reference, **choice}))
            for method, grids in methods.items()
            for grid in grids
            for choice in _multiplied_out(grid)
        ]
    except OSError as error:
        raise InputError(f"cases={path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"cases={path} is not laid out as conf/speed.yaml is: {error}") from error
    return list({case.name: case for case in found}.values())


def _multiplied_out(grid: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    values = (value if isinstance(value, list) else [value] for value in grid.values())
    for chosen in itertools.product(*values):
        yield dict(zip(grid, chosen, strict=True))


def _sizes(given: Mapping[str, Any]) -> dict[str, Any]:
    options = {name: value for name, value in given.items() if name not in SIZES}
    return {name: given[name] for name in SIZES} | {"options": options}
