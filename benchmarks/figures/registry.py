"""The figures that a report has, and the files that they become."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from matplotlib.figure import Figure
from pandas.errors import EmptyDataError

from benchmarks import style
from benchmarks.atomic import write_atomically
from benchmarks.errors import InputError
from benchmarks.results import Results


@dataclass(frozen=True)
class Drawing:
    """A figure, the end of its file's name, and what it is about."""

    suffix: str
    figure: Figure
    about: str


Maker = Callable[[Results], Iterator[Drawing]]


@dataclass(frozen=True)
class Registered:
    """A figure of every report: its heading and the function that draws it."""

    title: str
    maker: Maker


FIGURES: dict[str, Registered] = {}
"""By name, in the order of the report."""


def figure(name: str, title: str) -> Callable[[Maker], Maker]:
    """Registers a function that draws none, one or several figures from the results."""

    def register(maker: Maker) -> Maker:
        FIGURES[name] = Registered(title, maker)
        return maker

    return register


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Names the file of a cell that turns out to be damaged while it is read."""
    try:
        yield
    except (ValueError, KeyError, EOFError, BadZipFile, EmptyDataError) as error:
        raise InputError(f"{path} is damaged ({error}); delete it or run the cell again") from error


def file_suffix(dataset: str, setting: str) -> str:
    """End of a file's name for a figure of one setting."""
    return dataset + "_" + re.sub(r"\W+", "_", setting).strip("_")


def draw(results: Results, names: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Draws figures into `figures/`, as PNG and SVG; the same results give the same bytes.

    Yields:
        Name of the registered figure, stem of the files, and what is to be seen.
    """
    for name in names:
        with style.context():
            for drawing in FIGURES[name].maker(results):
                stem = "_".join(part for part in (name, drawing.suffix) if part)
                save(drawing.figure, results.folder / "figures", stem)
                yield name, stem, drawing.about


def save(drawn: Figure, folder: Path, stem: str) -> None:
    """Writes a figure as PNG and SVG, undated: the same figure gives the same bytes."""
    for kind, facts in (("png", {"Software": None}), ("svg", {"Date": None})):
        write_atomically(folder / f"{stem}.{kind}", _saver(drawn, kind, facts))


def delete_others(folder: Path, stems: Collection[str]) -> None:
    """Deletes the PNG and SVG files in `figures/` that no drawing of `stems` left there."""
    for kind in ("png", "svg"):
        for path in (folder / "figures").glob(f"*.{kind}"):
            if path.stem not in stems:
                path.unlink(missing_ok=True)


def _saver(drawn: Figure, kind: str, facts: Mapping[str, Any]) -> Callable[[Any], None]:
    return lambda file: drawn.savefig(file, format=kind, dpi=200, metadata=dict(facts))
