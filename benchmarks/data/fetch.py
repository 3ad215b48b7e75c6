"""Getting the public files of a dataset from the first address that has them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.data.authenticity import check_file
from benchmarks.data.files import existing_file

Report = Callable[[str], object]


def fetch(dataset_cfg: Mapping[str, Any], data_root: Path, report: Report) -> bool:
    """Fetch what is not there yet into `<data_root>/<name>/`.

    Args:
        dataset_cfg: `sources` lists, for each role of the loader, files with their `urls` in order
            of preference; the first file that arrives will do.
        data_root: folder of the datasets.
        report: takes one line of progress at a time.

    Returns:
        True if every role has a file now.
    """
    name, folder = dataset_cfg["name"], data_root / dataset_cfg["name"]
    if not dataset_cfg.get("sources"):
        report(_no_source(dataset_cfg))
        return False
    complete = True
    for role, sources in dataset_cfg["sources"].items():
        present = existing_file(name, data_root, dataset_cfg["loader"][role])
        if present is not None:
            report(f"{role}: {present} is already there")
        elif not any(_fetch_file(source, folder, report) for source in sources):
            complete = False
            report(_by_hand(role, sources, folder))
    return complete


def _fetch_file(source: Mapping[str, Any], folder: Path, report: Report) -> bool:
    from benchmarks.data.download import download

    target = folder / source["file"]
    for url in source["urls"]:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            download(url, target, source.get("sha256"), lambda part: _accept(part, source))
        except (OSError, ValueError) as error:
            report(f"no {source['file']} from {url}: {error}")
        else:
            report(f"fetched {target} from {url}")
            return True
    return False


def _accept(part: Path, source: Mapping[str, Any]) -> None:
    for check in check_file(part, source):
        if not check.ok:
            raise ValueError(f"this is another file ({check.label.split(': ')[1]} {check.detail})")


def _by_hand(role: str, sources: Sequence[Mapping[str, Any]], folder: Path) -> str:
    places = "; ".join(f"{source['file']} from {' or '.join(source['urls'])}" for source in sources)
    return f"{role}: no address answered. Put one of these into {folder} by hand: {places}"


def _no_source(dataset_cfg: Mapping[str, Any]) -> str:
    name, parent = dataset_cfg["name"], dataset_cfg.get("slice_of")
    if parent:
        return (
            f"{name} is a slice of {parent} and has no public address: "
            f"fetch {parent}, or put the slice's files into {name}/ of the data folder"
        )
    return f"{name} has no public address in its configuration (key `sources`)"
