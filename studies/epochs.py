"""Do more epochs change the answer? The same runs with eight and with 24 epochs, paired by seed.

    tar xf docs/results/epochs.tar.xz -C FOLDER
    python -m studies.epochs FOLDER                 writes docs/results/epochs.md

The runs with eight epochs are the main table's, of the same seeds. Those with 24 may choose a lower
learning rate, too.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from boundary import write
from evaluation import statistics
from evaluation.markdown import percent, with_interval
from evaluation.markdown import table as markdown
from evaluation.metrics import PLANNABLE
from evaluation.results import Results

from . import compact

RESULTS = Path("docs/results")
TASKS = "imdb", "rotten", "r8", "20newsgroups"
MORE = " with 24"  # after the names of methods
TRAINED = "head", "adapter", "lora", "full", "lora+tfidf"  # lora+tfidf has no epochs of its own
CONTRASTS = ("lora", "probe"), ("lora", "adapter"), ("lora", "full")
TITLE = "# Do more epochs change the answer?"
ABOUT = """MiniLM, 300 labels, three blocks; the main table's samples of seeds {seeds}. Each run \
chooses its epoch and its learning rate: with eight epochs among three rates, with 24 among the \
same and a lower one (head-only: ten times the epochs, the same four rates). In both the learning \
rate falls to 0 over all epochs, and a run stops after two epochs without a lower validation \
loss."""
NOTE = """In points; in brackets 95 % intervals, of other training samples and other texts, paired \
by seed and text. Verdicts: of the tasks' mean accuracy, after Holm's correction over a table; \
equivalent within one point."""


def together(before: Results, after: Results, metric: str) -> statistics.Scores:
    """The scores of both experiments' methods; those of `after` have names that end in `MORE`."""
    eight, more = before.scores[metric], after.scores[metric]
    parts = [
        {**old, **{f"{method}{MORE}": value for method, value in new.items()}}
        for old, new in zip(eight[:2], more[:2], strict=True)
    ]
    unseen = {**eight.unseen, **{f"{method}{MORE}": v for method, v in more.unseen.items()}}
    return eight._replace(values=parts[0], seeds=parts[1], unseen=unseen)


def differences(scores: dict[str, list[statistics.Scores]], pairs) -> dict[str, list[str]]:
    """The cells of these pairs: of the tasks' mean, and of each task."""
    means = {metric: statistics.compare(tasks, pairs) for metric, tasks in scores.items()}
    rows = {"mean of the tasks": means["accuracy"], "its macro-F1": means["macro_f1"]}
    for task, each in zip(TASKS, scores["accuracy"], strict=True):
        rows[task] = statistics.compare([each], pairs)
    ends = {name: rows[name][["difference", "low", "high"]].to_numpy() for name in rows}
    cells = {name: [with_interval(*row) for row in values] for name, values in ends.items()}
    return {"verdict": list(means["accuracy"]["verdict"]), **cells}


def accuracies(before: Sequence[Results], after: Sequence[Results]) -> str:
    """Mean accuracies with 24 and with eight epochs, and how many runs are best in the last."""
    tables = [
        each.runs.assign(task=task, epochs=epochs)
        for epochs, experiments in ((8, before), (24, after))
        for each, task in zip(experiments, TASKS, strict=True)
    ]
    runs = pd.concat(tables)
    runs = runs[runs["seed"].isin(after[0].runs["seed"])]
    means = runs.pivot_table("test_accuracy", ["epochs", "method"], "task")
    means["mean"] = means.mean(axis=1)
    columns = {"method": after[0].labels(TRAINED)}
    for task in (*TASKS, "mean"):
        pairs = [(means.loc[24, task][method], means.loc[8, task][method]) for method in TRAINED]
        columns[task] = [f"{percent(more)} ({percent(eight)})" for more, eight in pairs]
    last = runs[runs["best_epoch"] == runs["epochs"]].groupby(["epochs", "method"]).size()
    for epochs in (8, 24):  # head-only has ten times as many
        counts = [str(last.get((epochs, method), 0)) for method in TRAINED]
        columns[f"best in epoch {epochs}"] = ["—", *counts[1:-1], "—"]
    return markdown(columns)


def page(folder: Path) -> str:
    """The page of all four tasks; `folder` has the experiments with 24 epochs."""
    before = [compact.read(RESULTS / f"main-{task}") for task in TASKS]
    after = [compact.read(folder / f"epochs-{task}") for task in TASKS]
    scores = {
        metric: [together(*both, metric) for both in zip(before, after, strict=True)]
        for metric in PLANNABLE
    }
    labels = dict(zip(after[0].looks, after[0].labels(after[0].looks), strict=True))
    gains = [(f"{method}{MORE}", method) for method in TRAINED]
    pairs = [tuple(f"{method}{MORE}" for method in pair) for pair in CONTRASTS]
    tables = [
        markdown({"method": [labels[b] for _, b in gains]} | differences(scores, gains)),
        markdown(
            {"difference": [f"{labels[a]} − {labels[b]}" for a, b in CONTRASTS]}
            | differences(scores, pairs)
        ),
    ]
    seeds = sorted(set(after[0].runs["seed"]))
    about = ABOUT.format(seeds=f"{seeds[0]} to {seeds[-1]}")
    parts = [TITLE, about, "## Gains over eight epochs", tables[0]]
    parts += ["## With 24 epochs", tables[1], NOTE]
    parts += ["## Test accuracy, % (with eight epochs)", accuracies(before, after)]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    print(write(RESULTS / "epochs.md", page(Path(sys.argv[1]))))
