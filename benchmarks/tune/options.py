"""The command line of `benchmarks.tune`, as checked values; importing it loads nothing slow."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from benchmarks.errors import InputError
from benchmarks.tune.fields import SECOND_COLUMN

PRUNERS = ("hyperband", "median", "none")
FLAGS = ("--config-dir", "-cd")
"""Flags that are handed on to Hydra; each has a value."""

REFUSED = {
    "name": "the study's folder is named by study=",
    "timeout": "it belongs to benchmarks.run",
    "retry_failed": "it belongs to benchmarks.run",
    "fail_fast": "it belongs to benchmarks.run",
    "isolate": "it belongs to benchmarks.run",
    "save_predictions": "no test window is predicted in a study",
}
"""Keys of `conf/config.yaml` that a study cannot take, and why."""


@dataclass(frozen=True)
class Options:
    """What a launch was asked for.

    Attributes:
        model: the method, as `conf/model/` names it.
        study: name of the study, or "" for one made of method and dataset.
        n_trials: trials that the study shall have in the end, those of earlier launches included.
        n_workers: processes that run trials at the same time.
        pruner: how trials are given up early.
        also_minimise: a second objective, or "".
        storage: URL of the database, or "" for a journal file in the study's folder.
        write_to: configuration folder into which the best values go, or "" for the suite's own.
        hydra: everything else: keys of the configuration, and flags.
    """

    model: str
    study: str
    n_trials: int
    n_workers: int
    pruner: str
    also_minimise: str
    storage: str
    write_to: str
    hydra: tuple[str, ...]


DEFAULTS = {
    "model": "", "study": "", "n_trials": "50", "n_workers": "1", "pruner": "hyperband",
    "also_minimise": "", "storage": "", "write_to": "",
}  # fmt: skip


def parse(arguments: Sequence[str]) -> Options:
    """Options from `key=value` words and Hydra's flags; a study's file comes first.

    Raises:
        InputError: a word that is none of these, or a value that cannot be.
    """
    own, hydra = split(arguments)
    if own.get("study"):
        preset, more = split(read_preset(own["study"], config_folders(hydra), "model" in own))
        own, hydra = preset | own, [*more, *hydra]
    values = DEFAULTS | own
    if not values["model"]:
        raise InputError("model=NAME is missing; --help says more")
    if "," in values["model"]:
        raise InputError(f"model={values['model']}: a study is about one method")
    _require_known(values, "pruner", PRUNERS)
    _require_known(values, "also_minimise", (*SECOND_COLUMN, ""))
    if values["also_minimise"] and own.get("pruner", "none") != "none":
        raise InputError(
            f"pruner={values['pruner']} is not possible with also_minimise="
            f"{values['also_minimise']}: a trial is given up by one objective; choose pruner=none"
        )
    if values["storage"] and "://" not in values["storage"]:
        raise InputError(
            f"storage={values['storage']} is no URL such as postgresql://user@host/name; "
            "leave it out for a journal file in the study's folder"
        )
    return Options(
        model=values["model"],
        study=values["study"],
        n_trials=_count(values, "n_trials"),
        n_workers=_count(values, "n_workers"),
        pruner="none" if values["also_minimise"] else values["pruner"],
        also_minimise=values["also_minimise"],
        storage=values["storage"],
        write_to=values["write_to"],
        hydra=tuple(hydra),
    )


def split(words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The suite's own options by key, and the words that are Hydra's.

    Raises:
        InputError: a word that is neither, or a key that a study cannot take.
    """
    own: dict[str, str] = {}
    hydra: list[str] = []
    rest = iter(words)
    for word in rest:
        key, equals, value = word.partition("=")
        if key in FLAGS:
            hydra += [word] if equals else [word, next(rest, "")]
        elif not equals or key.startswith("-"):
            raise InputError(f"{word!r} is unknown; give key=value, --help says which")
        elif key in REFUSED:
            raise InputError(f"{word}: a study has no {key}: {REFUSED[key]}")
        elif key in DEFAULTS:
            if not value:
                raise InputError(f"{word!r} has no value; give {key}=VALUE")
            own[key] = value
        else:
            hydra.append(word)
    return own, hydra


def config_folders(hydra: Sequence[str]) -> list[Path]:
    """The user's `--config-dir`, if any, and the suite's configuration."""
    from benchmarks.paths import conf_dir

    own = []
    for word, following in zip_longest(hydra, hydra[1:], fillvalue=""):
        flag, _, value = word.partition("=")
        if flag in FLAGS:
            own.append(Path(value or following))
            if not own[-1].is_dir():
                raise InputError(f"{flag}={own[-1]} is no folder")
    return [*own, conf_dir()]


def read_preset(name: str, folders: Sequence[Path], may_lack: bool) -> list[str]:
    """The words that `conf/study/<name>.yaml` stands for, or none if a new name may be given.

    Raises:
        InputError: there is no such file and it is needed, or it holds more than keys and values.
    """
    for folder in folders:
        path = folder / "study" / f"{name}.yaml"
        if path.exists():
            import yaml

            content = yaml.safe_load(path.read_text())
            if not isinstance(content, dict) or any(
                isinstance(value, (dict, list)) for value in content.values()
            ):
                raise InputError(f"{path} must hold lines `key: value`, as on the command line")
            return [f"{key}={_word(value)}" for key, value in content.items()]
    if may_lack:
        return []
    known = sorted({path.stem for folder in folders for path in folder.glob("study/*.yaml")})
    raise InputError(
        f"study={name} has no file in conf/study, so model=NAME must be given; there are: "
        + (", ".join(known) or "none")
    )


def _require_known(values: dict[str, str], key: str, choices: Sequence[str]) -> None:
    if values[key] not in choices:
        valid = ", ".join(choice for choice in choices if choice)
        raise InputError(f"{key}={values[key]} is unknown; choose from {valid}")


def _word(value: object) -> str:
    """A YAML value as the command line writes it."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _count(values: dict[str, str], key: str) -> int:
    if not values[key].isdecimal() or int(values[key]) < 1:
        raise InputError(f"{key}={values[key]} must be a whole number above 0")
    return int(values[key])
