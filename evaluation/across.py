"""Test accuracy across experiments that differ in one constant: a line for each method.

    python -m evaluation.across results/labels-*      writes results/labels_train_examples.csv, .png

The constant is found by comparing experiment.json; learning rates, methods and seeds may differ,
and so may what has no influence on a number, and how long is trained, which the figure says.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from boundary import BadInput, expanded, reason, refuse, write

from .comparisons import interval_note
from .curves import accuracy_line
from .results import Results
from .style import line_handle, looks, plt, save, set_style

MAY_DIFFER = ("experiment", "methods", "seeds", "learning_rates", "results", "tuning_rates")
MAY_DIFFER += ("tensorboard", "parallel", "store_states", "micro_batch_tokens")
LENGTH = ("epochs", "evaluations_per_epoch", "patience")  # few reviews need more epochs
WIDE = 8  # from here on, the largest over the smallest value, the axis is logarithmic


def differing(experiments: Sequence[Results]) -> str:
    """The one constant in which they differ. Raises `BadInput` where it is none, or several."""
    constants = [results.experiment["constants"] for results in experiments]
    names = dict.fromkeys(name for values in constants for name in values)
    found = [
        name
        for name in names
        if name not in MAY_DIFFER and len({repr(values.get(name)) for values in constants}) > 1
    ]
    found = [name for name in found if name not in LENGTH] or found
    if len(found) != 1:
        what = " and ".join(found) or "no constant"
        raise BadInput(f"these experiments differ in {what}; expected one constant")
    return found[0]


def table(experiments: Sequence[Results], constant: str) -> pd.DataFrame:
    """A row for each method and value of the constant: accuracy, its interval, seconds."""
    rows = []
    for results in experiments:
        constants = results.experiment["constants"]
        value = constants.get(constant)
        if constant.endswith("_examples"):  # None: all there are; or fewer than asked for
            value = results.experiment["data"][constant.removesuffix("_examples")]
        seconds = results.runs.groupby("method")["training_seconds"].mean()
        intervals = results.intervals.join(seconds, on="method")
        known = {"experiment": results.folder.name, constant: value, "epochs": constants["epochs"]}
        rows.append(intervals.assign(**known))
    found = pd.concat(rows, ignore_index=True)
    front = [*known]
    found = found[[*front, *found.columns.drop(front)]]
    return found.sort_values(constant, kind="stable", ignore_index=True)


def figure(experiments: Sequence[Results], points: pd.DataFrame, constant: str):
    """Accuracy with its interval at each value; texts stand side by side in their order."""
    values = points[constant]
    numbers = pd.api.types.is_numeric_dtype(values)
    places = values if numbers else values.map({v: i for i, v in enumerate(values.unique())})
    drawn, axes = plt.subplots(figsize=(7.2, 5.0))
    look_of = looks(points["method"])
    for method, part in points.assign(x=places).groupby("method", sort=False):
        accuracy_line(axes, part["x"], part, look_of[method])
    if numbers and values.min() > 0 and values.max() / values.min() >= WIDE:
        axes.set_xscale("log")
    labels = [f"{v:,}" if numbers else str(v) for v in values.unique()]
    axes.set_xticks(places.unique(), labels)
    axes.minorticks_off()
    axes.set(xlabel=constant.upper(), ylabel="test accuracy (%)")
    axes.grid(alpha=0.3)
    note = interval_note(replace(experiments[0], intervals=points, looks=look_of))
    return drawn, note, [line_handle(look) for look in look_of.values()]


def compare(folders: Sequence[Path]) -> list[Path]:
    """Write the table and the figure beside the folders; returns their paths."""
    experiments = [Results.read(folder) for folder in folders]
    constant = differing(experiments)
    points = table(experiments, constant)
    common = os.path.commonprefix([folder.name for folder in folders]).rstrip("-_=.0123456789")
    path = folders[0].parent / "_".join(filter(None, [common or "across", constant]))
    about, epochs = experiments[0].experiment, list(points.groupby(constant)["epochs"].first())
    each = ", ".join(map(str, epochs if len(set(epochs)) > 1 else epochs[:1]))
    subtitle = (
        f"{about['model']} on {about['data_set']}\n{about['data']['test']:,} test reviews, "
        f"{len(experiments)} experiments; epochs: {each}"
    )
    title = f"How does accuracy depend on {constant.upper()}?"
    set_style()
    drawn = figure(experiments, points, constant)
    csv = write(Path(f"{path}.csv"), points.to_csv(index=False))
    return [csv, save(Path(f"{path}.png"), drawn, title, subtitle)]


def main(arguments: list[str] | None = None) -> int:
    """Compare the given folders; returns the exit status, 0 or 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    folders = [expanded(argument) for argument in arguments if argument != "--traceback"]
    try:
        if len(folders) < 2:
            raise BadInput("give two folders of results or more, such as results/labels-*")
        print(*compare([folder.absolute() for folder in folders]), sep="\n")
        return 0
    except BadInput as error:
        return refuse(error, arguments)
    except OSError as error:  # reading has raised BadInput
        place = folders[0].absolute().parent
        return refuse(BadInput(f"{place} cannot be written to ({reason(error)})"), arguments)


if __name__ == "__main__":
    sys.exit(main())
