"""One experiment as one page: tables, figures, report.md, and report.html to open with a click.

From the files alone, without training: python -m evaluation.report results/quick
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from boundary import BadInput, plain_cell, reason
from boundary import write as write_file
from records import DAMAGED

from . import advised, answer, html, tables
from .curves import VARIED
from .files import run_command
from .markdown import code, count, escape, percent, size, table, with_interval
from .metrics import METRICS
from .plots import draw
from .results import Results, runs_csv

COSTS = ("trainable_percentage", "training_time", "cost_and_benefit")
COSTS += tuple(f"{name.removesuffix('s')}s" for name in VARIED if name != "learning_rate")
LEARNING = ("learning_rates", "learning_curves_epochs", "train_accuracy", "train_loss")
SCORED = tuple(f"test_{name}" for name in METRICS if name != "accuracy")
NAMED = 12  # labels


def write(results: Results) -> list[Path]:
    """Write the collected tables, every figure and the page; returns their paths.

    Of compact results, which are such tables, only the page and the figures that are there.
    """
    folder, written = results.folder, []
    if not results.is_compact:
        written.append(write_file(folder / "runs.csv", runs_csv(results.records)))
        if len(results.history):
            table = results.history.to_csv(index=False)
            written.append(write_file(folder / "history.csv", table))
        if (wrong := results.misclassified) is not None:
            words = ["label", "predicted", "text"]  # a spreadsheet may run them
            table = wrong.assign(**wrong[words].map(plain_cell)).to_csv(index=False)
            written.append(write_file(folder / "misclassified.csv", table))
        if results.advised:
            table = answer.methods(results).to_csv(index=False)
            written.append(write_file(folder / "answer.csv", table))
    figures = draw(results)
    text = page(results, {path.stem: title for path, title in figures.items()})
    images = {path.name: path for path in figures}
    written += [*figures, write_file(folder / "report.md", text)]
    return [*written, write_file(folder / "report.html", html.page(text, images))]


def page(results: Results, figures: Mapping[str, str]) -> str:
    """The page in markdown: contrasts and results first, the rest folded.

    `figures` are the titles of those that were drawn, by file name.
    """

    def shown(*names):
        return [f"![{figures[name]}]({name}.png)" for name in names if name in figures]

    many = len(results.experiment["label_names"]) > 2
    wrong = [tables.misclassified(results)] if results.misclassified is not None else []
    scores = [tables.accuracies(results), *shown("test_accuracy")]
    first, folded = _contrasts(results, shown)
    sections = {
        "## Answer": _answer(results, shown, wrong) if results.advised else [],
        **first,
        "## Results": [] if results.advised else scores,
        "## Findings": [] if results.advised else [_findings(results)],
        "## Failed runs": [tables.failed(results)] * bool(len(results.failed)),
        **folded,
        "All results": scores if results.advised else [],
        "Costs": shown(*COSTS),
        "Other metrics": shown(*SCORED),
        "Learning, and single runs": [tables.single_runs(results), *shown(*LEARNING)],
        "Labels": [tables.by_label(results)] if many else [],
        "Texts misclassified by every method": [] if results.advised else wrong,
        "How it was made": _made(results),
    }
    title = f"# Experiment “{escape(results.experiment['constants']['experiment'])}”"
    parts = [title, _what(results)]
    for heading, inside in sections.items():
        if inside and heading.startswith("#"):
            parts += [heading, *inside]
        elif inside:  # opened by a click
            parts += [f"<details>\n<summary>{heading}</summary>", *inside, "</details>"]
    return "\n\n".join(parts) + "\n"


def _contrasts(results, shown):
    """The sections of the planned contrasts, and of all other pairs."""
    planned, others = results.contrasts, results.comparisons
    asked = len(results.experiment["constants"].get("contrasts") or ())
    missing = f"{count(asked - len(planned), 'planned contrast')} without finished runs."
    first = [tables.comparisons(results, planned), *shown("differences")] if len(planned) else []
    tried = [tables.comparisons(results, others)] if len(others) else []
    title = f"Exploratory comparisons: {'all other' if first else 'all'} pairs"
    return (
        {"## Planned contrasts": first + [missing] * (asked > len(planned))},
        {title: tried + ([] if first else shown("differences"))},
    )


def _answer(results, shown, wrong):
    """Which method, how sure that is, how it errs, and the command that trains it on all texts."""
    advice = answer.advice(results)
    label, more = escape(results.looks[advice.method].label), answer.more_labels(results)
    return [
        f"**{escape(advice.sentence)}**",
        *[escape(more or "")] * bool(more),
        advised.methods(results),
        *shown("accuracies"),
        f"### How {label} errs",
        advised.by_label(results, advice.method),
        *shown("confusion_matrix", "referral"),
        *wrong,
        "### A classifier of new texts",
        f"This trains {label} on all texts:",
        code(advised.final_command(results, advice.method)),
    ]


def _findings(results):
    """The highest score, from which it does not differ, and what was not varied."""
    intervals, metric = results.intervals, results.metric
    best = intervals.loc[intervals[metric].idxmax()]
    value = with_interval(*(best[f"{metric}{end}"] for end in ("", "_low", "_high")))
    label = f"{METRICS[metric].label}, %: {_labels(results, [best['method']])}, {value}"
    lines = [f"- **Highest test {label}**."]
    pairs = pd.concat([results.contrasts, results.comparisons])
    of_best = pairs[(pairs[["method_a", "method_b"]] == best["method"]).any(axis=1)]
    alike = of_best.loc[of_best["verdict"] != "different", ["method_a", "method_b"]]
    if others := [method for method in alike.to_numpy().ravel() if method != best["method"]]:
        lines[0] += f" There is **no** significant difference from {_labels(results, others)}."
    elif len(of_best):
        lines[0] += " It is significantly different from every other method."
    redrawn, baselines = results.are_labels_redrawn, results.baselines
    once = intervals.loc[intervals["seeds"] == 1, "method"]
    once = [method for method in once if redrawn or method not in baselines]
    if once and not results.is_folds:
        lines.append(
            f"- **Seeds were not varied for {_labels(results, once)}**: intervals and tests speak "
            "of these trained models on other test texts, not of training them again."
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
    redrawn = ", another training sample for each seed" if results.are_labels_redrawn else ""
    texts = (
        f"{labels:,} labelled texts in all, of which {data['validation']:,} validate{redrawn}; "
        f"{data['test']:,} test texts ({', '.join(each[:NAMED])}{more})"
    )
    if folds := data["folds"]:
        texts = (
            f"{data['texts']:,} texts ({', '.join(each[:NAMED])}{more}), each tested in one of "
            f"{folds} folds by models that are trained on the others"
        )
    lines = [
        f"**{_labels(results, dict.fromkeys(runs['method']))}**. Model: "
        f"{escape(experiment['model'])}; data: {escape(experiment['data_set'])}.",
        f"{texts}; up to {constants['max_tokens']} tokens{_truncated(experiment)}; "
        f"{'folds' if results.is_folds else 'seeds'}: "
        f"{', '.join(map(str, sorted(runs['seed'].unique())))}.",
    ]
    lines += [f"**{escape(warning)}**" for warning in data["warnings"]]
    if data["groups"]:
        splits = ", ".join(f"{number:,} {escape(name)}" for name, number in data["groups"].items())
        lines.append(f"Groups: {splits}; none is in two splits.")
    for frozen, part in runs[runs["shared_seconds"] > 0].groupby("frozen_blocks"):
        seconds, of = size(part["shared_seconds"].mean()), count(int(frozen), "frozen block")
        lines.append(f"Running {of}: {seconds} s, for {count(len(part), 'run')}.")
    lines.append(f"Machine: {escape('; '.join(runs['device'].unique()))}.")
    return "\n".join(lines)


def _truncated(experiment):
    share = experiment["data"]["test_share_truncated"]
    end = "beginning" if experiment["constants"].get("truncation") == "left" else "end"
    return f" ({percent(share)} % of the test texts are longer, and truncated at the {end})"


def _made(results):
    """The command, notes on the data, what ran it, and every constant, as the runs had them."""
    experiment, constants = results.experiment, results.constants
    known = ("started", "code", "python", "platform")
    lines = [*experiment["data"]["notes"]]
    lines += [f"{name}: {experiment[name]}" for name in known if experiment.get(name)]
    lines += [f"{name}: {number}" for name, number in experiment.get("libraries", {}).items()]
    chosen = results.hyperparameters
    methods = {"method": _each(results, chosen), "hyperparameters": map(_json, chosen.values())}
    values = {"constant": map(escape, constants), "value": map(_json, constants.values())}
    return [
        code(experiment["command"]),
        *["\n".join(f"- {escape(line)}" for line in lines)] * bool(lines),
        table(values),
        table(methods),
        "This page, from the files alone: `python -m evaluation.report` and this folder.",
    ]


def _each(results, methods):
    return [escape(results.looks[method].label) for method in methods]


def _json(value):
    return escape(json.dumps(value, ensure_ascii=False))


def rewrite(folder: Path) -> list[Path]:
    """The figures and the page of a folder anew, which may be another one's."""
    results = Results.read(folder)
    try:
        return write(results)
    except (TypeError, KeyError, AttributeError) as error:  # numbers for texts, and so on
        raise BadInput(f"{folder} cannot be shown ({reason(error)}); {DAMAGED}") from error


def main(arguments: list[str] | None = None) -> int:
    """Write the figures and the page of one folder anew; returns the exit status, 0 or 2."""
    expected = "give one folder of results, such as results/quick"
    return run_command(rewrite, arguments, range(1, 2), expected)


if __name__ == "__main__":
    sys.exit(main())
