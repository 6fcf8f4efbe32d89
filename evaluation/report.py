"""One experiment as one page: tables, figures, report.md, and report.html to open with a click.

From the files alone, without training: python -m evaluation.report results/quick
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import pandas as pd

from boundary import BadInput, expanded, reading, reason, refuse
from boundary import write as write_file

from . import blocks, html, tables
from .curves import tuning_figure
from .findings import findings
from .markdown import escape, percent
from .plots import draw
from .reproduce import reproduce
from .results import Results

LEARNING = ("learning_curves_epochs", "learning_curves_seconds")
MORE = ("train_accuracy", "train_loss", "test_loss", "trainable_percentage", "training_time")


def write(results: Results) -> list[Path]:
    """Write the collected tables, every figure and the page; returns their paths."""
    folder = results.folder
    collected = {
        "runs": pd.concat([results.runs, results.failed]).convert_dtypes(),
        "history": results.history,
        "changes": results.changes,
        "misclassified": results.misclassified,
    }
    written = [
        write_file(folder / f"{name}.csv", frame.to_csv(index=False))
        for name, frame in collected.items()
        if frame is not None and (len(frame) or name == "misclassified")
    ]
    figures = draw(results)
    text = page(results, {path.stem: title for path, title in figures.items()})
    written += [*figures, write_file(folder / "report.md", text)]
    return [*written, write_file(folder / "report.html", html.page(text, folder))]


def page(results: Results, figures: Mapping[str, str]) -> str:
    """The page in markdown; `figures` are the titles of those that were drawn, by file name."""

    def shown(*names):
        return [
            f"![{escape(figures[n])}]({quote(n, safe='=+')}.png)" for n in names if n in figures
        ]

    title = f"Experiment “{escape(results.experiment['constants']['experiment'])}”"
    pairs = [tables.comparisons(results)] if results.comparisons is not None else []
    learnt = [tables.convergence(results)] if len(results.convergence) else []
    wrong = [tables.misclassified(results)] if results.misclassified is not None else []
    sections = [
        _section("#", title, _what(results), *_listed(blocks.sentences(results))),
        _section("##", "Findings", *_listed(findings(results))),
        *shown("test_accuracy", "cost_and_benefit", "blocks", "learning_rates"),
        _section("##", "Results", tables.accuracies(results)),
        _section("##", "Comparisons", *pairs, *shown("differences")),
        _section("##", "Single runs", tables.single_runs(results)),
        _section("##", "Convergence", *learnt, *shown(*LEARNING)),
        _section("##", "Which labels are taken for which", *shown("confusion")),
        _section("##", "Reviews misclassified by every method", *wrong),
        _section(
            "##",
            "Where the methods changed the model",
            *shown(*(name for name in figures if name.startswith("changes_"))),
        ),
        _section("##", "Failed runs", *[tables.failed(results)] * bool(len(results.failed))),
        _section("##", "More figures", *shown(*MORE)),
        _section("##", "How to reproduce it", reproduce(results.experiment)),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _section(level, title, *parts):
    """A heading and what is under it; nothing where nothing is."""
    return "\n\n".join([f"{level} {title}", *parts]) if parts else ""


def _listed(sentences):
    """One list, or none."""
    return ["\n".join(f"- {sentence}" for sentence in sentences)] if sentences else []


def _what(results):
    experiment, runs = results.experiment, results.runs
    constants, data = experiment["constants"], experiment["data"]
    counts = ", ".join(
        f"{data[split]:,} {split}" for split in ("train", "validation", "test") if split in data
    )
    names = ", ".join(escape(str(name)) for name in experiment["label_names"][:12])
    more = len(experiment["label_names"]) - 12
    lines = [
        f"**{escape(results.labels(dict.fromkeys(runs['method'])))}**. Model: "
        f"{escape(experiment['model'])}; data: {escape(experiment['data_set'])}.",
        f"Reviews: {counts}; labels: {names}{f' and {more} more' if more > 0 else ''}; up to "
        f"{constants['max_tokens']} tokens{_truncated(experiment)}; "
        f"seeds: {', '.join(map(str, sorted(runs['seed'].unique())))}.",
    ]
    baselines = runs.loc[runs["baseline"].astype(bool), "method"].unique()
    if len(baselines):
        lines.append(
            f"Baseline, without a transformer, on whole reviews: "
            f"{escape(results.labels(baselines))}."
        )
    if len(results.machines) > 1:
        each = escape("; ".join(results.machines))
        lines.append(f"Machines: {each}. Seconds and memory on one and another do not compare.")
    elif results.machines:
        lines.append(f"Machine: {escape(results.machines[0])}.")
    return "\n".join(lines)


def _truncated(experiment):
    share = experiment["data"].get("test_share_truncated")
    if share is None:
        return ""
    end = "beginning" if experiment["constants"].get("truncation") == "left" else "end"
    return f" ({percent(share)} % of the test reviews are longer, and truncated at the {end})"


def main(arguments: list[str] | None = None) -> int:
    """Write the figures and the page of one folder anew; returns the exit status, 0 or 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    folders = [argument for argument in arguments if argument != "--traceback"]
    try:
        if len(folders) != 1:
            raise BadInput("give one folder of results, such as results/quick")
        folder = expanded(folders[0])
        with reading(str(folder)):
            tuning = (folder / "tuning.csv").exists()
        print(*([tuning_figure(folder)] if tuning else write(Results.read(folder))), sep="\n")
        return 0
    except BadInput as error:
        return refuse(error, arguments)
    except OSError as error:  # reading has raised BadInput
        return refuse(BadInput(f"{folder} cannot be written to ({reason(error)})"), arguments)


if __name__ == "__main__":
    sys.exit(main())
