"""One experiment as one page: tables, figures, report.md, and report.html to open with a click.

From the files alone, without training: python -m evaluation.report results/quick
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import numpy as np

from boundary import reading
from boundary import write as write_file

from . import html, tables
from .curves import VARIED, tuning_figure
from .files import run_command
from .findings import findings
from .markdown import count, escape, percent, size, table
from .plots import draw
from .results import Results, runs_csv

COSTS = ("trainable_percentage", "training_time", "cost_and_benefit")
COSTS += tuple(f"{name.removesuffix('s')}s" for name in VARIED)
LEARNING = ("learning_curves_epochs", "train_accuracy", "train_loss", "test_loss")


def write(results: Results) -> list[Path]:
    """Write the collected tables, every figure and the page; returns their paths.

    Of compact results, which are such tables, only the page and the figures that are there.
    """
    folder, written = results.folder, []
    if not results.is_compact:
        collected = {"runs": runs_csv(results.records)}
        for name in ("history", "changes"):
            frame = getattr(results, name)
            collected |= {name: frame.to_csv(index=False)} if len(frame) else {}
        if results.misclassified is not None:
            collected["misclassified"] = results.misclassified.to_csv(index=False)
        written += [write_file(folder / f"{name}.csv", text) for name, text in collected.items()]
    figures = draw(results)
    text = page(results, {path.stem: title for path, title in figures.items()})
    written += [*figures, write_file(folder / "report.md", text)]
    return [*written, write_file(folder / "report.html", html.page(text, folder))]


def page(results: Results, figures: Mapping[str, str]) -> str:
    """The page in markdown: contrasts and results first, the rest folded.

    `figures` are the titles of those that were drawn, by file name.
    """

    def shown(*names):
        return [
            f"![{escape(figures[n])}]({quote(n, safe='=+')}.png)" for n in names if n in figures
        ]

    title = f"Experiment “{escape(results.experiment['constants']['experiment'])}”"
    planned, others = results.contrasts, results.comparisons
    differences, changed = shown("differences"), [n for n in figures if n.startswith("changes_")]
    many = len(results.experiment["label_names"]) > 2
    tried = [tables.comparisons(results, others)] if len(others) else []
    wrong = [tables.misclassified(results)] if results.misclassified is not None else []
    sections = [
        _section(f"# {title}", _what(results)),
        _section("## Planned contrasts", *_planned(results), *differences * bool(len(planned))),
        _section("## Results", tables.accuracies(results), *shown("test_accuracy")),
        _section("## Findings", *_listed(findings(results))),
        _section("## Failed runs", *[tables.failed(results)] * bool(len(results.failed))),
        _folded(
            f"Exploratory comparisons: {'all other' if len(planned) else 'all'} pairs",
            *tried,
            *differences * (not len(planned)),
        ),
        _folded("Costs", *shown(*COSTS)),
        _folded("Learning, and single runs", tables.single_runs(results), *shown(*LEARNING)),
        _folded("Labels", *[tables.by_label(results)] * many),
        _folded("Reviews misclassified by every method", *wrong),
        _folded("Where the methods changed the model", *shown(*changed)),
        _folded("How it was made", _made(results.experiment)),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _section(heading, *parts):
    """A heading and what is under it; nothing where nothing is."""
    return "\n\n".join([heading, *parts]) if parts else ""


def _folded(heading, *parts):
    """The same, opened by a click."""
    start, end = f"<details>\n<summary>{heading}</summary>", "</details>"
    return "\n\n".join([start, *parts, end]) if parts else ""


def _listed(sentences):
    """One list, or none."""
    return ["\n".join(f"- {sentence}" for sentence in sentences)] if sentences else []


def _planned(results):
    """The contrasts that the experiment was made for, and those that have no result yet."""
    planned = results.experiment["constants"].get("contrasts") or ()
    tested = len(results.contrasts)
    parts = [tables.comparisons(results, results.contrasts)] if tested else []
    if tested < len(planned):
        parts.append(f"{count(len(planned) - tested, 'planned contrast')} without finished runs.")
    return parts


def _what(results):
    experiment, runs = results.experiment, results.runs
    constants, data = experiment["constants"], experiment["data"]
    names = list(map(escape, experiment["label_names"]))
    counts = np.bincount(results.predictions.labels, minlength=len(names))
    names = ", ".join(f"{name} {n:,}" for name, n in zip(names[:12], counts, strict=False))
    more = len(counts) - 12
    labels = data["train"] + data.get("validation", 0)
    redrawn = ", drawn anew for each seed" if constants.get("redraw_labels") else ""
    validate = f", of which {data['validation']:,} validate" if "validation" in data else ""
    lines = [
        f"**{escape(results.labels(dict.fromkeys(runs['method'])))}**. Model: "
        f"{escape(experiment['model'])}; data: {escape(experiment['data_set'])}.",
        f"{labels:,} labelled reviews in all{validate}{redrawn}; {data['test']:,} test reviews "
        f"({names}{f' and {more} more labels' if more > 0 else ''}); up to "
        f"{constants['max_tokens']} tokens{_truncated(experiment)}; "
        f"seeds: {', '.join(map(str, sorted(runs['seed'].unique())))}.",
    ]
    if data.get("groups"):
        column = constants.get("group_column")
        of = f" ({escape(column)})" if column else ""
        splits = ("train", "validation", "test")
        each = ", ".join(f"{data['groups'][split]:,} {split}" for split in splits)
        lines.append(f"Groups{of}: {each}; none is in two splits.")
    lines += [_frozen(frozen, part) for frozen, part in runs.groupby("frozen_blocks") if frozen]
    lines.append(f"Machine: {escape('; '.join(runs['device'].unique()))}.")
    return "\n".join(filter(None, lines))


def _frozen(frozen, runs):
    """What the frozen blocks took that some runs share; from and to where it was more than once."""
    seconds = runs["shared_seconds"].dropna()
    if not seconds.any():
        return ""
    took = " to ".join(dict.fromkeys([size(seconds.min()), size(seconds.max())]))
    of = count(int(frozen), "frozen block")
    return f"Shared pass through {of}: {took} s, for {count(len(runs), 'run')}."


def _truncated(experiment):
    share = experiment["data"].get("test_share_truncated")
    if share is None:
        return ""
    end = "beginning" if experiment["constants"].get("truncation") == "left" else "end"
    return f" ({percent(share)} % of the test reviews are longer, and truncated at the {end})"


def _made(experiment):
    """The command, notes on the data, what ran it and every constant."""
    constants = experiment["constants"]
    values = [escape(json.dumps(value, ensure_ascii=False)) for value in constants.values()]
    known = ("python", "platform", "git_commit", "started")
    lines = [*experiment["data"].get("notes", ())]
    lines += [f"{name}: {experiment[name]}" for name in known if experiment.get(name)]
    lines += [f"{name}: {number}" for name, number in experiment.get("libraries", {}).items()]
    return "\n\n".join(
        [
            f"    {experiment['command']}",
            *_listed([escape(line) for line in lines]),
            table({"constant": [name.upper() for name in constants], "value": values}),
            "This page, from the files alone: `python -m evaluation.report` and this folder.",
        ]
    )


def rewrite(folder: Path) -> list[Path]:
    """The figures and the page of a folder anew, or the figure of a tuning."""
    with reading(str(folder)):
        tuning = (folder / "tuning.csv").exists()
    return [tuning_figure(folder)] if tuning else write(Results.read(folder))


def main(arguments: list[str] | None = None) -> int:
    """Write the figures and the page of one folder anew; returns the exit status, 0 or 2."""
    expected = "give one folder of results, such as results/quick"
    return run_command(rewrite, arguments, range(1, 2), expected)


if __name__ == "__main__":
    sys.exit(main())
