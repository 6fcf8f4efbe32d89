"""One experiment as one page: tables, figures, report.md, and report.html to open with a click.

From the files alone, without training: python -m evaluation.report results/quick
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from boundary import write as write_file

from . import html, tables
from .curves import VARIED, tuning_figure
from .files import run_command
from .markdown import count, escape, interval, percent, size, table
from .plots import draw
from .results import Results, runs_csv

COSTS = ("trainable_percentage", "training_time", "cost_and_benefit")
COSTS += tuple(f"{name.removesuffix('s')}s" for name in VARIED)
LEARNING = ("learning_curves_epochs", "train_accuracy", "train_loss", "test_loss")
NAMED = 12  # labels


def write(results: Results) -> list[Path]:
    """Write the collected tables, every figure and the page; returns their paths.

    Of compact results, which are such tables, only the page and the figures that are there.
    """
    folder, written = results.folder, []
    if not results.is_compact:
        written.append(write_file(folder / "runs.csv", runs_csv(results.records)))
        for name in ("history", "misclassified"):
            frame = getattr(results, name)
            if frame is not None and (len(frame) or name == "misclassified"):
                written.append(write_file(folder / f"{name}.csv", frame.to_csv(index=False)))
    figures = draw(results)
    text = page(results, {path.stem: title for path, title in figures.items()})
    written += [*figures, write_file(folder / "report.md", text)]
    return [*written, write_file(folder / "report.html", html.page(text, folder))]


def page(results: Results, figures: Mapping[str, str]) -> str:
    """The page in markdown: contrasts and results first, the rest folded.

    `figures` are the titles of those that were drawn, by file name.
    """

    def shown(*names):
        return [f"![{figures[name]}]({name}.png)" for name in names if name in figures]

    planned, others = results.contrasts, results.comparisons
    asked = len(results.experiment["constants"].get("contrasts") or ())
    missing = f"{count(asked - len(planned), 'planned contrast')} without finished runs."
    contrasts = (
        [tables.comparisons(results, planned), *shown("differences")] if len(planned) else []
    )
    tried = [tables.comparisons(results, others)] if len(others) else []
    tried += [] if contrasts else shown("differences")
    many = len(results.experiment["label_names"]) > 2
    wrong = [tables.misclassified(results)] if results.misclassified is not None else []
    sections = {
        "## Planned contrasts": contrasts + [missing] * (asked > len(planned)),
        "## Results": [tables.accuracies(results), *shown("test_accuracy")],
        "## Findings": [_findings(results)],
        "## Failed runs": [tables.failed(results)] * bool(len(results.failed)),
        f"Exploratory comparisons: {'all other' if contrasts else 'all'} pairs": tried,
        "Costs": shown(*COSTS),
        "Learning, and single runs": [tables.single_runs(results), *shown(*LEARNING)],
        "Labels": [tables.by_label(results)] if many else [],
        "Reviews misclassified by every method": wrong,
        "How it was made": _made(results.experiment),
    }
    title = f"# Experiment “{escape(results.experiment['constants']['experiment'])}”"
    parts = [title, _what(results)]
    for heading, inside in sections.items():
        if inside and heading.startswith("#"):
            parts += [heading, *inside]
        elif inside:  # opened by a click
            parts += [f"<details>\n<summary>{heading}</summary>", *inside, "</details>"]
    return "\n\n".join(parts) + "\n"


def _findings(results):
    """The highest accuracy, from which it does not differ, and what was not varied."""
    intervals = results.intervals
    best = intervals.loc[intervals["accuracy"].idxmax()]
    what = "mean test accuracy" if best["seeds"] > 1 else "test accuracy"
    value = f"{_labels(results, [best['method']])}, {percent(best['accuracy'])} %"
    ends = interval(best["low"], best["high"])
    lines = [f"- **Highest {what}: {value}** (95 % interval {ends})."]
    pairs = pd.concat([results.contrasts, results.comparisons])
    own = pairs[(pairs[["method_a", "method_b"]] == best["method"]).any(axis=1)]
    alike = own.loc[own["verdict"] != "different", ["method_a", "method_b"]].to_numpy().ravel()
    if others := [method for method in alike if method != best["method"]]:
        lines[0] += f" There is **no** significant difference from {_labels(results, others)}."
    elif len(own):
        lines[0] += " It is significantly different from every other method."
    once = intervals.loc[intervals["seeds"] == 1, "method"]
    redrawn, baselines = results.are_labels_redrawn, results.baselines
    if once := [method for method in once if redrawn or method not in baselines]:
        lines.append(
            f"- **Seeds were not varied for {_labels(results, once)}**: intervals and tests speak "
            "of these trained models on other test reviews, not of training them again."
        )
    return "\n".join(lines)


def _labels(results, methods):
    return escape(results.labels(methods))


def _what(results):
    experiment, runs = results.experiment, results.runs
    constants, data = experiment["constants"], experiment["data"]
    counts = np.bincount(results.predictions.labels, minlength=len(experiment["label_names"]))
    each = [f"{escape(n)} {k:,}" for n, k in zip(experiment["label_names"], counts, strict=True)]
    more = f" and {len(each) - NAMED} more labels" if len(each) > NAMED else ""
    labels = data["train"] + data["validation"]
    redrawn = ", drawn anew for each seed" if results.are_labels_redrawn else ""
    validate = f", of which {data['validation']:,} validate"
    lines = [
        f"**{_labels(results, dict.fromkeys(runs['method']))}**. Model: "
        f"{escape(experiment['model'])}; data: {escape(experiment['data_set'])}.",
        f"{labels:,} labelled reviews in all{validate}{redrawn}; {data['test']:,} test reviews "
        f"({', '.join(each[:NAMED])}{more}); up to "
        f"{constants['max_tokens']} tokens{_truncated(experiment)}; "
        f"seeds: {', '.join(map(str, sorted(runs['seed'].unique())))}.",
    ]
    if data.get("groups"):
        splits = ", ".join(f"{number:,} {split}" for split, number in data["groups"].items())
        lines.append(f"Groups: {splits}; none is in two splits.")
    for frozen, part in runs[runs["shared_seconds"] > 0].groupby("frozen_blocks"):
        seconds, of = size(part["shared_seconds"].mean()), count(int(frozen), "frozen block")
        draw = " for each draw of labels" if redrawn else ""
        lines.append(f"Shared pass through {of}: {seconds} s{draw}, for {count(len(part), 'run')}.")
    lines.append(f"Machine: {escape('; '.join(runs['device'].unique()))}.")
    return "\n".join(lines)


def _truncated(experiment):
    share = experiment["data"]["test_share_truncated"]
    end = "beginning" if experiment["constants"].get("truncation") == "left" else "end"
    return f" ({percent(share)} % of the test reviews are longer, and truncated at the {end})"


def _made(experiment):
    """The command, notes on the data, what ran it and every constant."""
    constants = experiment["constants"]
    values = [escape(json.dumps(value, ensure_ascii=False)) for value in constants.values()]
    known = ("started", "code", "python", "platform")
    lines = [*experiment["data"].get("notes", ())]
    lines += [f"{name}: {experiment[name]}" for name in known if experiment.get(name)]
    lines += [f"{name}: {number}" for name, number in experiment.get("libraries", {}).items()]
    return [
        f"    {experiment['command']}",
        *["\n".join(f"- {escape(line)}" for line in lines)] * bool(lines),
        table({"constant": [name.upper() for name in constants], "value": values}),
        "This page, from the files alone: `python -m evaluation.report` and this folder.",
    ]


def rewrite(folder: Path) -> list[Path]:
    """The figures and the page of a folder anew, or the figure of a tuning."""
    tuning = folder / "tuning.csv"
    return [tuning_figure(tuning)] if tuning.exists() else write(Results.read(folder))


def main(arguments: list[str] | None = None) -> int:
    """Write the figures and the page of one folder anew; returns the exit status, 0 or 2."""
    expected = "give one folder of results, such as results/quick"
    return run_command(rewrite, arguments, range(1, 2), expected)


if __name__ == "__main__":
    sys.exit(main())
