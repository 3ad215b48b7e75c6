"""Figures of a report, drawn from an experiment's folder alone.

A new figure is a function decorated with `figure`: it then appears in every report. Its module is
imported here; the order of the imports is that of the report.
"""

from benchmarks.figures import error_curves, breakdowns, patterns, examples, learning  # noqa: I001
from benchmarks.figures.examples import example_figure
from benchmarks.figures.registry import FIGURES, Drawing, Registered, delete_others, draw, figure

__all__ = [
    "FIGURES",
    "Drawing",
    "Registered",
    "breakdowns",
    "delete_others",
    "draw",
    "error_curves",
    "example_figure",
    "examples",
    "figure",
    "learning",
    "patterns",
]
