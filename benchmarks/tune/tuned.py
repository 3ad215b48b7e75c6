"""The best configuration of a study as a model of its own: `model=tuned/<model>_<dataset>`."""

import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from benchmarks.atomic import require_writable, write_text_atomically
from benchmarks.paths import conf_dir
from benchmarks.tune.options import Options, config_folders
from benchmarks.tune.records import Records

log = logging.getLogger(__name__)

MARK = "# study: "
"""Begins the line that says which study wrote a file."""


def write_tuned(records: Records, folder: Path) -> Path | None:
    """Writes the values of the best trial into a configuration folder.

    The file takes the method's own YAML over and changes only what was tuned, so that the dataset
    still decides what it decides there.

    Returns:
        The file; None where another study's is in the way, which is left alone.
    """
    path = folder / "model" / "tuned" / f"{stem(records)}.yaml"
    if path.exists() and f"{MARK}{records.name}\n" not in path.read_text():
        log.warning(
            "%s is of another study and stays as it is; write_to=FOLDER writes elsewhere", path
        )
        return None
    require_writable(path.parent, "write_to")
    write_text_atomically(path, _content(records))
    return path


def stem(records: Records) -> str:
    """Name of the file: the method's and the dataset's."""
    dataset = records.definition["config"]["dataset"]["name"]
    return f"{records.definition['choice'].replace('/', '_')}_{dataset}"


def target_folder(options: Options) -> Path:
    """Configuration folder for the best values.

    What was asked for, else the user's own, else a checkout's; an installed package is not changed.

    Raises:
        InputError: a `--config-dir` that is not there.
    """
    if options.write_to:
        return Path(options.write_to)
    own = config_folders(options.hydra)[0]
    installed = conf_dir().parent == Path(__file__).parents[1]
    return Path("conf") if own == conf_dir() and installed else own


def _content(records: Records) -> str:
    best, config = records.best, records.definition["config"]
    values = records.values(best)
    default = records.default
    label = config["model"]["label"]
    unit, dataset = config["dataset"]["unit"], config["dataset"]["name"]
    before = (
        "the default configuration was not tried"
        if default is None
        else f"that of the default configuration under the same budget is {default['val_mae']:.4g}"
    )
    comments = [
        f"{MARK}{records.name}",
        f"# Written by python -m benchmarks.tune on {datetime.now(UTC):%Y-%m-%d}; changes are lost "
        "when the study goes on.",
        f"# Trial {best['trial']} of {len(records.counted)}, each of at most "
        f"{records.definition['budget']}, on {dataset}, {records.hidden}.",
        f"# Validation MAE {best['val_mae']:.4g} {unit}; {before}.",
    ]
    if records.definition["also_minimise"]:
        comments.append(
            "# The study had two objectives; this is the trial with the lowest validation MAE."
        )
    content: dict[str, Any] = {
        "defaults": [f"/model/{records.definition['choice']}@_here_", "_self_"],
        "name": f"tuned_{stem(records)}",
        "label": f"{label}, tuned on {dataset}",
    }
    for key, value in values.items():
        _put(content, key.removeprefix("model.").split("."), value)
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=None)
    return "\n".join(comments) + "\n" + text


def _put(content: dict[str, Any], path: list[str], value: Any) -> None:
    *parents, last = path
    for part in parents:
        content = content.setdefault(part, {})
    content[last] = value
