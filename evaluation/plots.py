"""Which figures an experiment has: one question each."""

import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from boundary import reason

from . import comparisons
from .curves import learning_curves, learning_rates
from .markdown import count
from .results import Results
from .style import save, set_style

BOXES = "no installed font has; install one that has them, such as Noto Sans CJK"


class Figure(NamedTuple):
    """A figure's file name without suffix, the question that it answers, and a drawing function."""

    name: str
    title: str
    draw: Callable[[Results], tuple | None]  # None where the runs say nothing about it


FIGURES = (
    Figure("accuracies", "How accurate is each method?", comparisons.accuracies),
    Figure("overview", "How do the methods compare, number by number?", comparisons.overview),
    Figure("confusion_matrix", "Which labels are taken for which?", comparisons.confusion_matrix),
    Figure("differences", "Which differences are more than chance?", comparisons.differences),
    Figure("learning_rates", "Which learning rate suits each method?", learning_rates),
    Figure("learning_curves_epochs", "How do the methods learn?", learning_curves),
)


def draw(results: Results, figures: Sequence[Figure] = FIGURES) -> dict[Path, str]:
    """Draw the figures into the experiment's folder; returns their paths and titles.

    A figure that these runs say nothing about (differences with a single method, learning curves
    without training by epochs) is left out. A figure that cannot be drawn costs only a warning on
    standard error.
    """
    set_style()
    drawn = {}
    with warnings.catch_warnings(record=True) as caught:
        for figure in figures:
            path = results.folder / f"{figure.name}.png"
            try:
                image = figure.draw(results)
                if image is not None:
                    drawn[save(path, image, figure.title, subtitle(results))] = figure.title
            except Exception as error:  # no figure may end an experiment
                print(f"warning: {path} was not drawn ({reason(error)})", file=sys.stderr)
    boxes = [each for each in caught if "missing from font" in str(each.message)]
    for each in caught:
        if each not in boxes:
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
    if boxes:
        print(f"warning: figures have boxes for letters that {BOXES}", file=sys.stderr)
    return drawn


def subtitle(results: Results) -> str:
    """The lines below every figure: experiment, model, data, and numbers of texts and seeds."""
    experiment, data = results.experiment, results.experiment["data"]
    seeds = count(results.runs["seed"].nunique(), "fold" if results.is_folds else "seed")
    has_all = results.is_folds and not data["labels_redrawn"]  # but the tested fold's
    labelled = "" if has_all else f"{data['train'] + data['validation']:,} labelled and "
    return (
        f"experiment “{experiment['constants']['experiment']}”: {experiment['model']} on "
        f"{experiment['data_set']}\n{labelled}"
        f"{len(results.predictions.labels):,} test texts, {seeds}"
    )
