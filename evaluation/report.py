"""One experiment as one page of markdown, from its files alone.

Redo the page and the figures without training: python -m evaluation.report results/quick
"""

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd
from scipy.special import softmax

from . import records, statistics, tables
from .curves import CURVES
from .findings import findings
from .markdown import escape, percent
from .plots import command, compared, make_plots
from .reproduce import reproduce
from .style import look

MORE = ("train_accuracy", "train_loss", "test_loss", "trainable_percentage", "training_time")


def write_report(folder: Path) -> Path:
    """Write `report.md` from the other files in `folder`; figures are linked where they are there.

    Raises `ValueError` and `OSError` where there is no finished run, or a file is missing or
    damaged.
    """
    experiment, runs, failed = records.read_experiment(folder)
    tests = experiment["data"]["test"]
    intervals = statistics.by_method(runs, tests)
    comparisons = compared(folder, runs)
    wrong = _read_misjudged(folder)
    said = findings(experiment, runs, failed, intervals, comparisons, wrong)
    title = f"Experiment “{escape(experiment['constants']['experiment'])}”"
    changes = sorted(path.stem for path in folder.glob("changes_*.png"))
    sections = [
        _section("#", title, _what(experiment, runs)),
        _section("##", "What was found", "\n".join(f"- {sentence}" for sentence in said)),
        *_figures(folder, "test_accuracy", "cost_and_benefit"),
        _section("##", "Results", tables.results(runs, intervals)),
        *_comparisons(folder, comparisons),
        _section("##", "Single runs", tables.single_runs(statistics.run_intervals(runs, tests))),
        *_learning(folder, experiment),
        _section("##", "Which labels are taken for which", *_figures(folder, "confusion")),
        *_mistakes(wrong),
        _section("##", "Where the methods changed the model", *_figures(folder, *changes)),
        *_failed(failed),
        _section("##", "More figures", *_figures(folder, *MORE)),
        _section("##", "How to make it again", reproduce(experiment)),
    ]
    path = folder / "report.md"
    records.write(path, "\n\n".join(section for section in sections if section) + "\n")
    return path


def misjudged(folder: Path, texts: Sequence[str], label_names: Sequence[str]) -> pd.DataFrame:
    """The test reviews that every method gets wrong in all its finished runs; `misjudged.csv`.

    `texts` are the test reviews, in test order. Columns: review (its place in test order, from
    0), label, predicted, confidence and text, most confident first. A run's probabilities are
    the softmax of its logits; they are averaged over a method's seeds, then over the methods, and
    the wrong label with the highest average is the predicted one, which is its confidence.
    Raises `ValueError` and `OSError` where predictions are missing or do not fit the texts.
    """
    experiment = {"label_names": list(label_names), "data": {"test": len(texts)}}
    _, runs, _ = records.read_experiment(folder)
    wrong, by_method = np.ones(len(texts), bool), []
    for method, ours in runs.groupby("method", sort=False):
        probabilities = []
        for seed in ours["seed"]:
            labels, logits = records.read_predictions(folder, method, seed, experiment)
            wrong &= logits.argmax(1) != labels
            probabilities.append(softmax(logits, axis=1))  # (n, C)
        by_method.append(np.mean(probabilities, axis=0))
    mean = np.mean(by_method, axis=0)
    mean[np.arange(len(texts)), labels] = -1  # the true label is not the wrong one, however likely
    names = np.array(label_names, dtype=object)
    rows = pd.DataFrame(
        {
            "review": np.arange(len(texts)),
            "label": names[labels],
            "predicted": names[mean.argmax(1)],
            "confidence": mean.max(1),
            "text": list(texts),
        }
    )
    rows = rows[wrong].sort_values("confidence", ascending=False, kind="stable", ignore_index=True)
    records.write(folder / "misjudged.csv", rows.to_csv(index=False))
    return rows


def _read_misjudged(folder):
    path = folder / "misjudged.csv"
    if not path.exists():
        return None
    return records.read_csv(path, ("label", "predicted", "text"), ("review", "confidence"))


def _section(level, title, *parts):
    """A heading and what is under it; nothing where nothing is."""
    there = [part for part in parts if part]
    return "\n\n".join([f"{level} {title}", *there]) if there else ""


def _figures(folder, *names):
    """Links to those figures that have been drawn."""
    there = [name for name in names if (folder / f"{name}.png").exists()]
    return [f"![{name.replace('_', ' ')}]({quote(name)}.png)" for name in there]


def _what(experiment, runs):
    constants, data = experiment["constants"], experiment["data"]
    methods = ", ".join(look(m).name for m in dict.fromkeys(runs["method"]))
    seeds = ", ".join(map(str, sorted(runs["seed"].unique())))
    counts = ", ".join(
        f"{data[split]:,} {split}" for split in ("train", "validation", "test") if split in data
    )
    names = ", ".join(escape(str(name)) for name in experiment["label_names"][:12])
    more = len(experiment["label_names"]) - 12
    lines = [
        f"**{methods}**. Model: {escape(experiment['model'])}; data: "
        f"{escape(experiment['data_set'])}.",
        f"Reviews: {counts}; labels: {names}{f' and {more} more' if more > 0 else ''}; "
        f"up to {constants['max_tokens']} tokens{_cut(data)}; seeds: {seeds}.",
    ]
    if "tfidf" in set(runs["method"]):
        lines.append("TF-IDF, with logistic regression, reads whole reviews.")
    if "device" in experiment:
        lines.append(f"Machine: {escape(experiment['device'])}.")
    return "\n".join(lines)


def _cut(data):
    share = data.get("test_share_cut_at_max_tokens")
    return "" if share is None else f" ({percent(share)} % of the test reviews are longer and cut)"


def _comparisons(folder, comparisons):
    if comparisons is not None:
        yield _section("##", "Comparisons", tables.comparisons(comparisons))
        yield from _figures(folder, "differences")


def _learning(folder, experiment):
    history = records.read_csv(folder / "history.csv", ("method",), CURVES)
    if history.empty:
        return
    if "steps" not in history:  # files of before steps were recorded
        batch = experiment["constants"]["batch_size"]
        history["steps"] = history["epoch"] * math.ceil(experiment["data"]["train"] / batch)
    yield _section("##", "Learning", tables.convergence(statistics.convergence(history)))
    yield from _figures(folder, "learning_curves_epochs", "learning_curves_seconds")


def _mistakes(wrong):
    if wrong is not None:
        shown = tables.misjudged(wrong) if len(wrong) else "There are none."
        yield _section("##", "Reviews that every method gets wrong", shown)


def _failed(failed):
    if len(failed):
        yield _section("##", "Failed runs", tables.failed(failed))


def main(arguments: list[str] | None = None) -> int:
    """Remake the figures and the page of one folder; returns the exit status, 0 or 2."""
    return command(_remake, sys.argv[1:] if arguments is None else arguments)


def _remake(folder):
    return [*make_plots(folder), write_report(folder)]


if __name__ == "__main__":
    sys.exit(main())
