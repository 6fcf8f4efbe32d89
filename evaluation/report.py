"""One experiment as one page: tables, figures, report.md, and report.html to open with a click.

From the files alone, without training: python -m evaluation.report results/quick
"""

import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from boundary import BadInput, expanded, reading, refuse
from boundary import write as write_file

from . import answer, html, tables
from .markdown import code, count, escape, percent, size, table, with_interval
from .metrics import METRICS
from .plots import draw
from .results import Results, runs_csv

COSTS = ("cost_and_benefit", "blocks")  # figures; "blocks" is of studies/variants.py
LEARNING = ("learning_rates", "learning_curves_epochs")
NAMED = 12  # labels


def write(results: Results) -> list[Path]:
    """Write the collected tables, every figure and the page; returns their paths."""
    written = {"runs.csv": runs_csv(results.records)}
    if len(results.history):
        written["history.csv"] = results.history.to_csv(index=False)
    if results.misclassified is not None:
        written["misclassified.csv"] = results.misclassified.to_csv(index=False)
    if results.advised:
        written["answer.csv"] = answer.methods(results).to_csv(index=False)
    paths = [write_file(results.folder / name, text) for name, text in written.items()]
    figures = draw(results)
    return [*paths, *figures, *write_page(results, figures)]


def write_page(results: Results, figures: Mapping[Path, str]) -> list[Path]:
    """Write report.md and report.html with these figures and titles; returns their paths."""
    folder, images = results.folder, {path.name: path for path in figures}
    text = page(results, {path.stem: title for path, title in figures.items()})
    paths = [write_file(folder / "report.md", text)]
    return [*paths, write_file(folder / "report.html", html.page(text, images))]


def page(results: Results, figures: Mapping[str, str]) -> str:
    """The page in markdown: contrasts and results first, the rest folded.

    `figures` are the titles of those that were drawn, by file name.
    """

    def shown(*names):
        return [f"![{figures[name]}]({name}.png)" for name in names if name in figures]

    many = len(results.experiment["label_names"]) > 2
    wrong = [tables.misclassified(results)] if results.misclassified is not None else []
    scores, first, folded = tables.accuracies(results), *_contrasts(results, shown)
    if results.advised:
        opening = {"## Answer": _answer(results, shown, wrong), **first}
        closing = {"All results": [scores, *shown("overview")]}
    else:
        opening = {**first, "## Results": [scores, *shown("accuracies", "overview")]}
        opening |= {"## Findings": [_findings(results)]}
        closing = {"Misclassified texts": wrong}
    failed = tables.failed(results)
    sections = {
        **opening,
        "## Failed runs": [failed] * bool(failed),
        **folded,
        "Costs": shown(*COSTS),
        "Learning, and single runs": [tables.single_runs(results), *shown(*LEARNING)],
        "Labels": [tables.by_label(results)] if many else [],
        **closing,
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
    asked = len(results.experiment["constants"]["contrasts"])
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
    label, last = results.looks[advice.method].label, results.experiment["command"]
    return [
        f"**{escape(advice.sentence)}**",
        *map(escape, answer.more_labels(results)),
        table(answer.method_columns(results)),
        escape(" ".join(answer.notes(results))),
        *shown("accuracies"),
        f"### How {escape(label)} errs",
        table(answer.label_columns(results, advice.method)),
        *shown("confusion_matrix"),
        escape(answer.referral_line(results, advice.method)),
        *wrong,
        "### A classifier of new texts",
        f"This trains {escape(label)} on all texts:",
        code(f"{last.split(' && ')[-1]} --final {shlex.quote(advice.method)}"),
    ]


def _findings(results):
    """The highest score, from which it does not differ, and what was not varied."""
    intervals, metric = results.intervals.set_index("method"), results.metric
    best, (label,) = intervals.loc[results.best], results.labels([results.best])
    value = with_interval(*(best[f"{metric}{end}"] for end in ("", "_low", "_high")))
    heading = f"{METRICS[metric].label}, %: {escape(label)}, {value}"
    lines = [f"- **Highest test {heading}**."]
    pairs = pd.concat([results.contrasts, results.comparisons])
    of_best = pairs[(pairs[["method_a", "method_b"]] == results.best).any(axis=1)]
    alike = of_best.loc[of_best["verdict"] != "different", ["method_a", "method_b"]]
    if others := [method for method in alike.to_numpy().ravel() if method != results.best]:
        lines[0] += f" There is **no** significant difference from {_named(results, others)}."
    elif len(of_best) and len(of_best) == len(intervals) - 1:
        lines[0] += " It is significantly different from every other method."
    fixed = set() if results.are_labels_redrawn else results.baselines
    once = [method for method in intervals.index[intervals["seeds"] == 1] if method not in fixed]
    if once and not results.is_folds:
        lines.append(
            f"- **Seeds were not varied for {_named(results, once)}**: intervals and tests speak "
            "of these trained models on other test texts, not of training them again."
        )
    return "\n".join(lines)


def _named(results, methods):
    return escape(", ".join(results.labels(methods)))


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
        f"**{_named(results, dict.fromkeys(runs['method']))}**. Model: "
        f"{escape(experiment['model'])}; data: {escape(experiment['data_set'])}.",
        f"{texts}; up to {constants['max_tokens']} tokens{_truncated(experiment)}; "
        f"{'folds' if results.is_folds else 'seeds'}: "
        f"{', '.join(map(str, sorted(runs['seed'].unique())))}.",
    ]
    if data["groups"]:
        splits = ", ".join(f"{number:,} {escape(name)}" for name, number in data["groups"].items())
        lines.append(f"Groups: {splits}; none is in two splits.")
    for frozen, part in runs[runs["shared_seconds"] > 0].groupby("frozen_blocks"):
        seconds, blocks = size(part["shared_seconds"].mean()), count(int(frozen), "frozen block")
        lines.append(f"Running {blocks}: {seconds} s, for {count(len(part), 'run')}.")
    lines.append(f"Machine: {escape('; '.join(runs['device'].unique()))}.")
    return "\n\n".join(["\n".join(lines), *(f"**{escape(w)}**" for w in data["warnings"])])


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
    methods = {"method": results.labels(chosen), "hyperparameters": map(_json, chosen.values())}
    values = {"constant": constants, "value": map(_json, constants.values())}
    return [
        code(experiment["command"]),
        *["\n".join(f"- {escape(line)}" for line in lines)] * bool(lines),
        table(values),
        table(methods),
        "This page, from the files alone: `python -m evaluation.report` and this folder.",
    ]


def _json(value):
    return json.dumps(value, ensure_ascii=False)


def rewrite(folder: Path) -> list[Path]:
    """The figures and the page of a folder anew, which may be another one's."""
    return write(Results.read(folder))


def main(
    arguments: list[str] | None = None,
    act: Callable[..., list[Path]] = rewrite,
    counts: Sequence[int] = (1,),
    expected: str = "give one folder of results, such as results/quick",
) -> int:
    """Do `act` with the folders on the command line, as many as `counts` has, and print paths.

    Returns the exit status, 0, or 2 for bad input.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    folders = [expanded(argument) for argument in arguments if argument != "--traceback"]
    try:
        if len(folders) not in counts:
            raise BadInput(expected)
        with reading(str(folders[-1]), verb="shown"):
            print(*act(*folders), sep="\n")
    except BadInput as error:
        return refuse(error, arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
