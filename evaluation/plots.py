"""The figures of one experiment, from its files alone: one question each.

Redo them without training: python -m evaluation.plots results/quick
"""

import functools
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from . import comparisons, records, statistics
from .curves import CURVES, learning_curves
from .matrices import changes_map, confusion_matrices
from .style import look, save, set_style


def make_plots(folder: Path) -> list[Path]:
    """Draw every figure of the experiment in `folder`; returns their paths.

    A figure that these runs say nothing about (differences of a single method, learning curves
    of what does not learn by epochs) is left out. Raises `ValueError` and `OSError` where there
    is no finished run to draw, or a file is missing or damaged.
    """
    experiment, runs, _ = records.read_experiment(folder)
    subtitle = _subtitle(experiment, runs)
    set_style()
    frame = functools.partial(_frame, folder, subtitle)
    intervals = statistics.by_method(runs, experiment["data"]["test"])
    classes = len(experiment["label_names"])
    paths = []
    for name, (column, title, scale) in comparisons.BARS.items():
        paths += frame(comparisons.bars(runs, column, scale, intervals, classes), name, title)
    cost = comparisons.cost_and_benefit(runs, intervals)
    paths += frame(cost, "cost_and_benefit", "What does accuracy cost?")
    differences = comparisons.differences(compared(folder, runs))
    paths += frame(differences, "differences", "Which methods can be told apart?")
    confusion = confusion_matrices(folder, experiment, runs)
    paths += frame(confusion, "confusion", "Which labels are taken for which?")
    history = records.read_csv(folder / "history.csv", ("method",), CURVES)
    for column, name, axis in (
        ("epoch", "learning_curves_epochs", "epochs"),
        ("seconds", "learning_curves_seconds", "training time (s)"),
    ):
        if len(history):
            title = f"How do the methods learn, {column.rstrip('s')} by {column.rstrip('s')}?"
            paths += frame(learning_curves(history, runs, column, axis), name, title)
    changes = records.read_csv(folder / "changes.csv")
    for method in changes["method"].unique() if len(changes) else ():
        drawn = changes_map(changes[changes["method"] == method])
        title = f"Where did {look(method).name} change the model?"
        paths += frame(drawn, f"changes_{method}", title)
    return paths


def _frame(folder, subtitle, drawn, name, title):
    """Save what a drawing function returned; an empty list where it had nothing to draw."""
    if drawn is None:
        return []
    figure, note, handles = drawn
    return [save(figure, folder / f"{name}.png", title, subtitle, note, handles)]


def _subtitle(experiment, runs):
    data, seeds = experiment["data"], runs["seed"].nunique()
    return (
        f"experiment “{experiment['constants']['experiment']}”: {experiment['model']} on "
        f"{experiment['data_set']}\n{data['train']:,} training and {data['test']:,} test reviews, "
        f"up to {experiment['constants']['max_tokens']} tokens, "
        f"{seeds} seed{'s' if seeds > 1 else ''}"
    )


def compared(folder: Path, runs: pd.DataFrame) -> pd.DataFrame | None:
    """`statistics.compare` of the finished runs, largest difference first; None for one method."""
    if runs["method"].nunique() < 2:
        return None
    table = statistics.compare(statistics.read_right(folder, runs))
    return table.sort_values("difference", ascending=False, kind="stable")


def command(work: Callable[[Path], list[Path]], arguments: list[str]) -> int:
    """Call `work` on the one folder in `arguments` and print the paths that it writes.

    Returns the exit status: 0, or 2 with one line that says what is wrong.
    """
    try:
        if len(arguments) != 1:
            raise ValueError("give one folder of results, such as results/quick")
        print(*work(Path(arguments[0])), sep="\n")
        return 0
    except (ValueError, OSError) as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(command(make_plots, sys.argv[1:]))
