"""Test accuracy across experiments that differ in one constant: a line for each method.

    python -m evaluation.across results/labels-*     writes results/labels_labels.md, .csv and .png

The constant is found by comparing experiment.json; learning rates, methods and seeds may differ,
and so may what has no influence on a number, and how long is trained, which the page says.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from boundary import BadInput, write
from records import FREE, RunRecord

from . import statistics, tables
from .comparisons import interval_note
from .curves import accuracy_figure
from .files import run_command
from .markdown import escape, interval, percent
from .markdown import table as markdown
from .results import Results, blocks_of
from .style import as_text, looks, parse, save, set_style

LENGTH = ("epochs", "evaluations_per_epoch", "patience")  # few reviews need more epochs
LABELS = "How many labels does each method need?"
QUESTIONS = {  # constant: the figure's title, its axis
    "labels": (LABELS, "labelled reviews in all"),
    "train_examples": (LABELS, "training reviews"),
    "max_tokens": ("How much of a review does each method need?", "tokens of a review"),
    "blocks": ("How many blocks does each method need?", "last blocks that learn"),
    "batch_size": ("Which batch size suits each method?", "reviews in a batch"),
}


def differing(experiments: Sequence[Results]) -> str:
    """The constant in which they differ. Raises `BadInput` where it is none, or several."""
    constants = [results.experiment["constants"] for results in experiments]
    names = dict.fromkeys(name for own in constants for name in own if name not in FREE)
    found = [name for name in names if len({repr(own.get(name)) for own in constants}) > 1]
    found = [name for name in found if name not in LENGTH] or found
    if len(found) != 1:
        what = ", ".join(found) or "no constant"
        raise BadInput(f"these experiments differ in {what}; expected one constant")
    return found[0]


def value(results: Results, axis: str):
    """What the constant is in an experiment; a number of reviews where it says how many."""
    data, own = results.experiment["data"], results.experiment["constants"].get(axis)
    if axis == "labels":  # None: all there are; or fewer than asked for
        return data["train"] + data["validation"]
    if axis.endswith("_examples"):
        return data[axis.removesuffix("_examples")]
    return own if isinstance(own, int | float) else as_text(own)


def varied(method: str, axis: str, own) -> str:
    """The method as a variant: "lora" and max_tokens=64 are "lora(max_tokens=64)"."""
    name, given = parse(method)
    return f"{name}({', '.join(f'{k}={v!r}' for k, v in (given | {axis: own}).items())})"


def table(experiments: Sequence[Results], axis: str) -> pd.DataFrame:
    """A row for each method and value of `axis`: accuracy, its interval, seconds."""
    drawn = looks(
        [m for results in experiments for m in results.looks], blocks_of(records_of(experiments))
    )
    rows = []
    for results in experiments:
        means = results.runs.groupby("method")[["training_seconds", "macro_f1"]].mean()
        points = results.intervals.join(means, on="method")
        known = {"experiment": results.folder.name, axis: value(results, axis)}
        known["label"] = [drawn[method].label for method in points["method"]]
        known["epochs"] = results.experiment["constants"]["epochs"]
        rows.append(points.assign(**known))
    found = pd.concat(rows, ignore_index=True)
    front = ["experiment", "label", axis, "epochs"]
    found = found[[*dict.fromkeys([*front, *found.columns])]]
    few = len(experiments[0].experiment["label_names"]) == 2  # F1 says little more than accuracy
    return found.drop(columns="macro_f1") if few else found


def compared(experiments: Sequence[Results], axis: str) -> Results | None:
    """Each method with itself at other values, on the same test reviews, Holm over all pairs.

    None where the test reviews are not the same.
    """
    labels = [results.predictions.labels for results in experiments]
    if not all(np.array_equal(labels[0], other) for other in labels):
        return None
    right, seeds, blocks = {}, {}, blocks_of(records_of(experiments))
    for results in experiments:
        own = results.predictions.seeds()
        for method, rows in results.predictions.right().items():
            name = varied(method, axis, value(results, axis))
            right.setdefault(method, {})[name] = rows
            seeds[name], blocks[name] = own[method], blocks[method]
    each = [statistics.compare(of, seeds=seeds) for of in right.values()]
    pairs = statistics.with_verdicts(pd.concat(each, ignore_index=True))
    return replace(experiments[0], comparisons=pairs, looks=looks(seeds, blocks))


def records_of(experiments: Sequence[Results]) -> list[RunRecord]:
    """Of all their runs."""
    return [record for results in experiments for record in results.records]


def figure(experiments: Sequence[Results], points: pd.DataFrame, axis: str):
    """Accuracy with its interval at each value, and a dot for each seed."""
    drawn = looks(points["method"], blocks_of(records_of(experiments)))
    runs = pd.concat(each.runs.assign(experiment=each.folder.name) for each in experiments)
    level = points["method"].isin(runs.loc[runs["baseline"], "method"])
    shown = points.assign(x=points[axis], line=points["method"], level=level)
    image, handles = accuracy_figure(shown, runs, drawn, question(axis)[1])
    note = interval_note(replace(experiments[0], intervals=points, looks=drawn))
    return image, f"{note}; small dots: single seeds", handles


def question(axis: str) -> tuple[str, str]:
    """What the figure and the page answer, and the figure's axis."""
    return QUESTIONS.get(axis, (f"How does accuracy depend on {axis.upper()}?", axis.upper()))


def page(about: str, image: str, points: pd.DataFrame, axis: str, pairs: Results | None) -> str:
    """The page: figure, accuracies, and which of them differ significantly."""
    title, label = question(axis)
    columns = {
        "method": points["label"].map(escape),
        label: [escape(str(value)) for value in points[axis]],
        "seeds": points["seeds"].map(str),
        "test accuracy, %": points["accuracy"].map(percent),
        "95 % interval": map(interval, points["low"], points["high"]),
        **({"macro-F1, %": points["macro_f1"].map(percent)} if "macro_f1" in points else {}),
        "experiment": points["experiment"].map(lambda name: f"[{name}]({name}/report.md)"),
    }
    parts = [f"# {title}", escape(about), f"![{title}]({image})", markdown(columns)]
    if pairs is None:
        parts.append("The test reviews are not the same, so that no differences are paired.")
    else:
        heading = "## Comparisons of each method with itself"
        parts += [heading, tables.comparisons(pairs, pairs.comparisons)]
    return "\n\n".join(parts) + "\n"


def compare(*folders: Path) -> list[Path]:
    """Write the page, its table and its figure beside the folders; returns their paths."""
    folders = sorted(folder.absolute() for folder in folders)
    experiments = [Results.read(folder) for folder in folders]
    axis = differing(experiments)
    experiments.sort(key=lambda one: (isinstance(value(one, axis), str), value(one, axis)))
    points = table(experiments, axis)
    common = os.path.commonprefix([folder.name for folder in folders]).rstrip("-_=.0123456789")
    path = folders[0].parent / f"{common or 'across'}_{axis}"
    about, epochs = experiments[0].experiment, list(points.groupby(axis)["epochs"].first())
    each = ", ".join(map(str, epochs if len(set(epochs)) > 1 else epochs[:1]))
    subtitle = (
        f"{about['model']} on {about['data_set']}; {about['data']['test']:,} test reviews, "
        f"{len(experiments)} experiments; epochs: {each}"
    )
    text = page(subtitle, f"{path.name}.png", points, axis, compared(experiments, axis))
    set_style()
    drawn = figure(experiments, points, axis)
    return [
        write(Path(f"{path}.md"), text),
        write(Path(f"{path}.csv"), points.to_csv(index=False)),
        save(Path(f"{path}.png"), drawn, question(axis)[0], subtitle),
    ]


def main(arguments: list[str] | None = None) -> int:
    """Compare the given folders; returns the exit status, 0 or 2."""
    expected = "give two folders of results or more, such as results/labels-*"
    return run_command(compare, arguments, range(2, 1000), expected)


if __name__ == "__main__":
    sys.exit(main())
