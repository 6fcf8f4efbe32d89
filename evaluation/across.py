"""Test accuracy across experiments that differ in one constant, or two: a line for each method.

    python -m evaluation.across results/labels-*     writes results/labels_labels.md, .csv and .png
    python -m evaluation.across results/ends-*       MAX_TOKENS, a line for each TRUNCATION

The constants are found by comparing experiment.json; learning rates, methods and seeds may differ,
and so may what has no influence on a number, and how long is trained, which the figure says.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from boundary import BadInput, write

from . import statistics, tables
from .comparisons import interval_note
from .curves import accuracy_figure
from .files import run_command
from .markdown import escape, interval, percent
from .markdown import table as markdown
from .results import Results
from .style import as_text, looks, parse, save, set_style

MAY_DIFFER = ("experiment", "methods", "seeds", "learning_rates", "results", "tuning_rates")
MAY_DIFFER += ("tensorboard", "parallel", "store_states", "micro_batch_tokens", "contrasts")
MAY_DIFFER += ("equivalence_margin",)
LENGTH = ("epochs", "evaluations_per_epoch", "patience")  # few reviews need more epochs
QUESTIONS = {  # constant: the figure's title, its axis
    "labels": ("How many labels does each method need?", "labelled reviews in all"),
    "train_examples": ("How many labels does each method need?", "training reviews"),
    "max_tokens": ("How much of a review does each method need?", "tokens of a review"),
    "blocks": ("How many blocks does each method need?", "last blocks that learn"),
    "batch_size": ("Which batch size suits each method?", "reviews in a batch"),
}


def differing(experiments: Sequence[Results]) -> list[str]:
    """The constant in which they differ, and a second one where there is one.

    First comes the one with more values. Raises `BadInput` where it is none, or three and more.
    """
    constants = [results.experiment["constants"] for results in experiments]
    names = dict.fromkeys(name for values in constants for name in values)
    counts = {name: len({repr(values.get(name)) for values in constants}) for name in names}
    found = [name for name in names if name not in MAY_DIFFER and counts[name] > 1]
    found = [name for name in found if name not in LENGTH] or found
    if len(found) not in (1, 2):
        what = ", ".join(found) or "no constant"
        raise BadInput(f"these experiments differ in {what}; expected one constant, or two")
    return sorted(found, key=lambda name: -counts[name])


def values(results: Results, constants: Sequence[str]) -> dict:
    """What the constants are in an experiment; a number of reviews where they say how many."""
    found, data = {}, results.experiment["data"]
    for name in constants:
        value = results.experiment["constants"].get(name)
        if name == "labels":  # None: all there are; or fewer than asked for
            value = data["train"] + data["validation"]
        elif name.endswith("_examples"):
            value = data[name.removesuffix("_examples")]
        found[name] = as_text(value) if isinstance(value, list | dict) else value
    return found


def varied(method: str, **constants) -> str:
    """The method as a variant: "lora" and max_tokens=64 are "lora(max_tokens=64)"."""
    name, given = parse(method)
    return f"{name}({', '.join(f'{k}={v!r}' for k, v in (given | constants).items())})"


def table(experiments: Sequence[Results], axis: str, *line: str) -> pd.DataFrame:
    """A row for each method and value of `axis`: accuracy, its interval, seconds.

    A method is named with the value of the second constant, `line`, where there is one.
    """
    rows = []
    for results in experiments:
        means = results.runs.groupby("method")[["training_seconds", "macro_f1"]].mean()
        points = results.intervals.join(means, on="method")
        points["method"] = [_line(results, method, line) for method in points["method"]]
        known = {"experiment": results.folder.name, **values(results, [axis])}
        known |= {"epochs": results.experiment["constants"]["epochs"]}
        rows.append(points.assign(**known)[[*known, *points.columns.drop([*known], "ignore")]])
    found = pd.concat(rows, ignore_index=True)
    drawn = looks(found["method"], blocks_of(experiments, line))
    found.insert(1, "label", [drawn[method].label for method in found["method"]])
    return found.sort_values(axis, kind="stable", ignore_index=True)


def _line(results, method, line):
    return varied(method, **values(results, line)) if line else method


def compared(experiments: Sequence[Results], constants: Sequence[str]) -> Results | None:
    """Each method with itself at other values, on the same test reviews, Holm over all pairs.

    None where the test reviews are not the same.
    """
    labels = [results.predictions.labels for results in experiments]
    if not all(np.array_equal(labels[0], other) for other in labels):
        return None
    right, seeds = {}, {}
    for results in experiments:
        own = results.predictions.seeds()
        for method, rows in results.predictions.right().items():
            name = varied(method, **values(results, constants))
            right.setdefault(method, {})[name] = rows
            seeds[name] = own[method]
    each = [statistics.compare(of, seeds=seeds) for of in right.values()]
    pairs = statistics.with_verdicts(pd.concat(each, ignore_index=True))
    drawn = looks(seeds, blocks_of(experiments, constants))
    return replace(experiments[0], comparisons=pairs, looks=drawn)


def blocks_of(experiments: Sequence[Results], constants: Sequence[str]) -> dict:
    """How many blocks the methods train, where all experiments have the same."""
    found = {}
    for results in experiments:
        for record in results.records:
            name = _line(results, record.method, constants)
            found.setdefault(name, set()).add(record.hyperparameters.get("blocks"))
    return {name: of.pop() if len(of) == 1 else "k" for name, of in found.items()}


def figure(experiments: Sequence[Results], points: pd.DataFrame, axis: str, line: Sequence[str]):
    """Accuracy with its interval at each value, and a dot for each seed."""
    look_of = looks(points["method"], blocks_of(experiments, line))
    runs = pd.concat(
        results.runs.assign(
            experiment=results.folder.name,
            method=[_line(results, method, line) for method in results.runs["method"]],
        )
        for results in experiments
    )
    baselines = set(runs.loc[runs["baseline"], "method"])
    level = points["method"].isin(baselines)
    shown = points.assign(x=points[axis], line=points["method"], level=level)
    drawn, handles = accuracy_figure(shown, runs, look_of, question(axis)[1])
    note = interval_note(replace(experiments[0], intervals=points, looks=look_of))
    return drawn, f"{note}; small dots: single seeds", handles


def question(axis: str) -> tuple[str, str]:
    """What the figure and the page answer, and the figure's axis."""
    return QUESTIONS.get(axis, (f"How does accuracy depend on {axis.upper()}?", axis.upper()))


def page(about: str, image: str, points: pd.DataFrame, axis: str, pairs: Results | None) -> str:
    """The page: figure, accuracies, and which of them differ significantly."""
    columns = {
        "method": points["label"].map(escape),
        question(axis)[1]: [escape(str(value)) for value in points[axis]],
        "seeds": points["seeds"].map(str),
        "test accuracy, %": points["accuracy"].map(percent),
        "95 % interval": map(interval, points["low"], points["high"]),
        **({"macro-F1, %": points["macro_f1"].map(percent)} if "macro_f1" in points else {}),
        "experiment": points["experiment"].map(lambda name: f"[{name}]({name}/report.md)"),
    }
    title, about = question(axis)[0], escape(about.replace("\n", "; "))
    parts = [f"# {title}", about, f"![{title}]({image})", markdown(columns)]
    if pairs is None:
        parts.append("The test reviews are not the same, so that no differences are paired.")
    else:
        heading = "## Comparisons of each method with itself"
        parts += [heading, tables.comparisons(pairs, pairs.comparisons)]
    return "\n\n".join(parts) + "\n"


def compare(folders: Sequence[Path]) -> list[Path]:
    """Write the page, its table and its figure beside the folders; returns their paths."""
    folders = [folder.absolute() for folder in folders]
    experiments = [Results.read(folder) for folder in folders]
    axis, *line = differing(experiments)
    # A shell lists folders by name: the page must not depend on that.
    experiments.sort(key=lambda one: [*map(_rank, values(one, [axis, *line]).values())])
    points = table(experiments, axis, *line)
    if len(experiments[0].experiment["label_names"]) == 2:  # it says little more than accuracy
        points = points.drop(columns="macro_f1")
    common = os.path.commonprefix([folder.name for folder in folders]).rstrip("-_=.0123456789")
    path = folders[0].parent / "_".join(filter(None, [common or "across", axis]))
    about, epochs = experiments[0].experiment, list(points.groupby(axis)["epochs"].first())
    each = ", ".join(map(str, epochs if len(set(epochs)) > 1 else epochs[:1]))
    subtitle = (
        f"{about['model']} on {about['data_set']}\n{about['data']['test']:,} test reviews, "
        f"{len(experiments)} experiments; epochs: {each}"
    )
    pairs = compared(experiments, [*line, axis])
    text = page(subtitle, f"{path.name}.png", points, axis, pairs)
    set_style()
    drawn = figure(experiments, points, axis, line)
    return [
        write(Path(f"{path}.md"), text),
        write(Path(f"{path}.csv"), points.to_csv(index=False)),
        save(Path(f"{path}.png"), drawn, question(axis)[0], subtitle),
    ]


def _rank(value):
    """Numbers by size, then texts, then None, which mostly means all."""
    return value is None, isinstance(value, str), value


def main(arguments: list[str] | None = None) -> int:
    """Compare the given folders; returns the exit status, 0 or 2."""
    expected = "give two folders of results or more, such as results/labels-*"
    return run_command(lambda *folders: compare(folders), arguments, range(2, 1000), expected)


if __name__ == "__main__":
    sys.exit(main())
