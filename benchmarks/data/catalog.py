"""The datasets that `conf/dataset/` describes, read without Hydra so that the data CLI is quick."""

from typing import Any, cast

from omegaconf import OmegaConf

from benchmarks.errors import InputError
from benchmarks.paths import conf_dir


def dataset_names() -> list[str]:
    """Names of all datasets, in alphabetical order."""
    return sorted(path.stem for path in (conf_dir() / "dataset").glob("*.yaml"))


def dataset_config(name: str) -> dict[str, Any]:
    """Return the configuration of a dataset as a plain dictionary.

    Raises:
        InputError: if there is no such dataset.
    """
    if name not in dataset_names():
        raise InputError(f"unknown dataset {name!r}: choose from {', '.join(dataset_names())}")
    path = conf_dir() / "dataset" / f"{name}.yaml"
    config = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    if not isinstance(config, dict) or "defaults" in config:
        raise InputError(f"{path}: must be a mapping with every key written out, without defaults")
    if config.get("name") != name:
        raise InputError(f"{path}: name is {config.get('name')!r}, expected {name!r} as the file")
    return cast(dict[str, Any], config)
