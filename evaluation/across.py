"""Test accuracy across experiments that differ in one constant, or two: a line for each method.

    python -m evaluation.across results/labels-*     writes results/labels_train_examples.md, .csv
                                                     and .png
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

from boundary import BadInput, expanded, reason, refuse, write

from . import statistics, tables
from .comparisons import interval_note
from .curves import accuracy_line
from .markdown import escape, interval, percent
from .markdown import table as markdown
from .results import Results
from .style import line_handle, looks, parse, plt, save, set_style

MAY_DIFFER = ("experiment", "methods", "seeds", "learning_rates", "results", "tuning_rates")
MAY_DIFFER += ("tensorboard", "parallel", "store_states", "micro_batch_tokens")
LENGTH = ("epochs", "evaluations_per_epoch", "patience")  # few reviews need more epochs
WIDE = 8  # from here on, the largest over the smallest value, the axis is logarithmic


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
    found = {}
    for name in constants:
        found[name] = results.experiment["constants"].get(name)
        if name.endswith("_examples"):  # None: all there are; or fewer than asked for
            found[name] = results.experiment["data"][name.removesuffix("_examples")]
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
        seconds = results.runs.groupby("method")["training_seconds"].mean()
        points = results.intervals.join(seconds, on="method")
        if line:
            of = values(results, line)
            points["method"] = [varied(method, **of) for method in points["method"]]
        known = {"experiment": results.folder.name, **values(results, [axis])}
        known |= {"epochs": results.experiment["constants"]["epochs"]}
        rows.append(points.assign(**known)[[*known, *points.columns.drop([*known], "ignore")]])
    found = pd.concat(rows, ignore_index=True)
    return found.sort_values(axis, kind="stable", ignore_index=True)


def compared(experiments: Sequence[Results], constants: Sequence[str]) -> Results | None:
    """Each method with itself at other values, on the same test reviews, Holm over all pairs.

    None where the test reviews are not the same.
    """
    labels = [results.predictions.labels for results in experiments]
    if not all(np.array_equal(labels[0], other) for other in labels):
        return None
    right = {}
    for results in experiments:
        for method, rows in results.predictions.right().items():
            name = varied(method, **values(results, constants))
            right.setdefault(method, {})[name] = rows
    pairs = pd.concat([statistics.compare(of) for of in right.values()], ignore_index=True)
    pairs["p_holm"] = statistics.holm(pairs["p"].to_numpy(float))
    names = [name for of in right.values() for name in of]
    return replace(experiments[0], comparisons=pairs, looks=looks(names))


def figure(experiments: Sequence[Results], points: pd.DataFrame, axis: str):
    """Accuracy with its interval at each value; texts stand side by side in their order."""
    at = points[axis]
    numbers = pd.api.types.is_numeric_dtype(at)
    places = at if numbers else at.map({v: i for i, v in enumerate(at.unique())})
    drawn, axes = plt.subplots(figsize=(7.2, 5.0))
    look_of = looks(points["method"])
    for method, part in points.assign(x=places).groupby("method", sort=False):
        accuracy_line(axes, part["x"], part, look_of[method])
    if numbers and at.min() > 0 and at.max() / at.min() >= WIDE:
        axes.set_xscale("log")
    labels = [f"{v:,}" if numbers else str(v) for v in at.unique()]
    axes.set_xticks(places.unique(), labels)
    axes.minorticks_off()
    axes.set(xlabel=axis.upper(), ylabel="test accuracy (%)")
    axes.grid(alpha=0.3)
    note = interval_note(replace(experiments[0], intervals=points, looks=look_of))
    return drawn, note, [line_handle(look) for look in look_of.values()]


def question(axis: str) -> str:
    """What the figure and the page answer."""
    return f"How does accuracy depend on {axis.upper()}?"


def page(about: str, image: str, points: pd.DataFrame, axis: str, pairs: Results | None) -> str:
    """The page: figure, accuracies, and which of them differ significantly."""
    look_of = looks(points["method"])
    columns = {
        "method": [escape(look_of[method].label) for method in points["method"]],
        axis.upper(): points[axis].map(str),
        "seeds": points["seeds"].map(str),
        "test accuracy, %": points["accuracy"].map(percent),
        "95 % interval": map(interval, points["low"], points["high"]),
        "experiment": points["experiment"].map(lambda name: f"[{name}]({name}/report.md)"),
    }
    title, about = question(axis), escape(about.replace("\n", "; "))
    parts = [f"# {title}", about, f"![{title}]({image})", markdown(columns)]
    if pairs is None:
        parts.append("The test reviews are not the same, so that no differences are paired.")
    else:
        parts += ["## Comparisons of each method with itself", tables.comparisons(pairs)]
    return "\n\n".join(parts) + "\n"


def compare(folders: Sequence[Path]) -> list[Path]:
    """Write the page, its table and its figure beside the folders; returns their paths."""
    experiments = [Results.read(folder) for folder in folders]
    axis, *line = differing(experiments)
    # A shell lists folders by name: the page must not depend on that.
    experiments.sort(key=lambda one: [(v is None, v) for v in values(one, [axis, *line]).values()])
    points = table(experiments, axis, *line)
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
    drawn = figure(experiments, points, axis)
    return [
        write(Path(f"{path}.md"), text),
        write(Path(f"{path}.csv"), points.to_csv(index=False)),
        save(Path(f"{path}.png"), drawn, question(axis), subtitle),
    ]


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
