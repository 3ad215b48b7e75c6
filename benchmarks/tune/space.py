"""Search spaces: which keys of the configuration a study varies, and how (`conf/tune/*.yaml`).

A line is a key with a distribution: `{int: [low, high]}` or `{float: [low, high]}`, both with
`log: true` or `step:`, `{choice: [...]}`, or `{product: [name, name]}` for a value that is not
drawn but made of others. A name without a dot is no key: it is drawn for a product alone.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.errors import InputError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

KINDS = ("int", "float", "choice", "product")
DETAILS = ("log", "step")

CONTOUR = "contour"
"""Line of a file that is no distribution, but names the axes of the report's map of errors."""

DIGITS = 4
"""Significant digits of the real numbers that are drawn: more would say nothing."""


@dataclass(frozen=True)
class Space:
    """A checked search space.

    Attributes:
        model: the method it is for.
        lines: distribution of each name, as in the file.
        contour: the two numbers that the report's map of errors is about; where there are none, it
            is about the two that matter most.
    """

    model: str
    lines: Mapping[str, Any]
    contour: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.lines:
            raise InputError(f"the search space of {self.model} is empty")
        for name, line in self.lines.items():
            problem = self._problem(line)
            if problem:
                raise InputError(f"conf/tune/{self.model}.yaml: {name}: {line}: {problem}")
        if self.contour and (len(self.contour) != 2 or not set(self.contour) <= set(self.numbers)):
            raise InputError(
                f"conf/tune/{self.model}.yaml: contour: {list(self.contour)}: it needs two of "
                + ", ".join(self.numbers)
            )

    def _problem(self, line: object) -> str:
        """What is wrong with a line, or nothing."""
        kinds = [kind for kind in KINDS if isinstance(line, dict) and kind in line]
        if len(kinds) != 1 or not isinstance(line, dict):
            return f"must have one of {', '.join(KINDS)}"
        (kind,) = kinds
        unknown = sorted(set(line) - {kind} - set(DETAILS if kind in ("int", "float") else ()))
        values = line[kind]
        if unknown:
            return f"{', '.join(unknown)} is unknown here"
        if not isinstance(values, list) or len(values) < (2 if kind != "choice" else 1):
            return f"{kind} needs a list"
        if kind == "product":
            absent = [name for name in values if "product" in self.lines.get(name, {"product": 0})]
            return f"{', '.join(map(str, absent))} is not drawn here" if absent else ""
        if kind == "choice":
            return ""
        number = int if kind == "int" else (int, float)
        if len(values) != 2 or not all(isinstance(value, number) for value in values):
            return f"{kind} needs two numbers, [low, high]"
        low, high = values
        if not low < high or (line.get("log") and low <= 0):
            return "low must be below high, and above 0 with log"
        return "log and step exclude each other" if line.get("log") and line.get("step") else ""

    @property
    def drawn(self) -> dict[str, dict[str, Any]]:
        """The lines whose values are drawn."""
        return {name: line for name, line in self.lines.items() if "product" not in line}

    @property
    def keys(self) -> list[str]:
        """The keys of the configuration that are varied."""
        return [name for name in self.lines if "." in name]

    @property
    def numbers(self) -> list[str]:
        """The keys whose values are numbers."""
        return [key for key in self.keys if self._is_number(self.lines[key])]

    def _is_number(self, line: Mapping[str, Any]) -> bool:
        return all(type(choice) in (int, float) for choice in line.get("choice", ()))

    def is_logarithmic(self, name: str) -> bool:
        """Whether a number is best shown on a logarithmic axis."""
        line = self.lines[name]
        choices = [value for value in line.get("choice", ()) if isinstance(value, (int, float))]
        product = any(self.is_logarithmic(factor) for factor in line.get("product", ()))
        wide = len(choices) > 1 and min(choices) > 0 and max(choices) >= 4 * min(choices)
        return bool(line.get("log")) or product or wide

    def distributions(self) -> "dict[str, BaseDistribution]":
        """The same for Optuna; choices that are lists are texts there."""
        from optuna import distributions as kinds

        made: dict[str, BaseDistribution] = {}
        for name, line in self.drawn.items():
            details = {detail: line[detail] for detail in DETAILS if line.get(detail)}
            if "choice" in line:
                made[name] = kinds.CategoricalDistribution([*map(_as_choice, line["choice"])])
            elif "int" in line:
                made[name] = kinds.IntDistribution(*line["int"], **details)
            else:
                made[name] = kinds.FloatDistribution(*line["float"], **details)
        return made

    def values(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Values of the configuration's keys, from what was drawn."""
        found = {name: _value(line, parameters[name]) for name, line in self.drawn.items()}
        for name, line in self.lines.items():
            if "product" in line:
                found[name] = math.prod(found[factor] for factor in line["product"])
        return {name: found[name] for name in self.lines if "." in name}

    def defaults(self, config: Mapping[str, Any]) -> dict[str, Any] | None:
        """What would have to be drawn for the values of `config`; None if it cannot be drawn.

        Raises:
            InputError: a key that the configuration does not have.
        """
        values = {key: _at(config, key, self.model) for key in self.keys}
        for key, line in self.lines.items():
            helpers = [name for name in line.get("product", ()) if name not in values]
            if len(helpers) == 1:
                others = math.prod(values[n] for n in line["product"] if n not in helpers)
                values[helpers[0]] = values[key] // others
        drawn = {name: values.get(name) for name in self.drawn}
        if not all(_contains(line, drawn[name]) for name, line in self.drawn.items()):
            return None
        drawn = {
            name: _as_choice(drawn[name]) if "choice" in line else drawn[name]
            for name, line in self.drawn.items()
        }
        same = self.values(drawn) == {key: values[key] for key in self.keys}
        return drawn if same else None


def read_space(model: str, folders: Sequence[Path]) -> Space:
    """The search space of a method, from the first of the configuration folders that has one.

    Raises:
        InputError: no such method, none with a space, or a space that is malformed.
    """
    import yaml

    for folder in folders:
        path = folder / "tune" / f"{model}.yaml"
        if path.exists():
            try:
                lines = yaml.safe_load(path.read_text())
            except yaml.YAMLError as error:
                raise InputError(f"{path} is no YAML: {error}") from error
            if not isinstance(lines, dict):
                raise InputError(f"{path} must hold lines `key: {{distribution}}`")
            contour = tuple(lines.pop(CONTOUR, ()))
            return Space(model, lines, contour)
    known = sorted(
        path.relative_to(folder / "tune").with_suffix("").as_posix()
        for folder in folders
        for path in folder.glob("tune/**/*.yaml")
    )
    if any((folder / "model" / f"{model}.yaml").exists() for folder in folders):
        raise InputError(
            f"model={model} has no search space (closed forms are not trained); choose from "
            f"{', '.join(known)}, or write tune/{model}.yaml into a folder of your own and give it "
            "as --config-dir"
        )
    raise InputError(f"model={model} is unknown; choose from {', '.join(known)}")


def as_overrides(values: Mapping[str, Any]) -> list[str]:
    """Values as words of a command line."""
    return [f"{key}={json.dumps(value)}" for key, value in values.items()]


def _as_choice(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list) else value


def _value(line: Mapping[str, Any], value: Any) -> Any:
    """A drawn value as the configuration has it: real numbers with a few digits, lists as lists."""
    if "float" in line:
        return float(f"{value:.{DIGITS}g}")
    listed = "choice" in line and any(isinstance(choice, list) for choice in line["choice"])
    return json.loads(value) if listed and isinstance(value, str) else value


def _at(config: Mapping[str, Any], key: str, model: str) -> Any:
    value: Any = config
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            raise InputError(f"conf/tune/{model}.yaml: {key} is no key of the configuration")
        value = value[part]
    return value


def _contains(line: Mapping[str, Any], value: Any) -> bool:
    if "choice" in line:
        return value in line["choice"]
    low, high = line.get("int") or line["float"]
    if not isinstance(value, (int, float)) or not low <= value <= high:
        return False
    steps = (value - low) / line["step"] if line.get("step") else 0.0
    return math.isclose(steps, round(steps), abs_tol=1e-9)
