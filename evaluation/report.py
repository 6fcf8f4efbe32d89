"""One experiment as one page: tables, figures, report.md, and report.html to open with a click.

From the files alone, without training: python -m evaluation.report results/quick
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from boundary import BadInput, expanded, reading, refuse, sheet, some
from boundary import write as write_file

from . import advice, answer, errors, html, tables
from .comparisons import MOST_LABELS
from .markdown import code, count, escape, percent, table, with_intervals
from .metrics import METRICS
from .plots import draw
from .results import Results, runs_csv

JSON = partial(json.dumps, ensure_ascii=False)
LEARNING = ("learning_rates", "learning_curves_epochs")
NAMED = 12  # labels that are named
FEWER_PAIRS = "The answer's table is corrected over fewer pairs, so more leads may be significant."


def write(results: Results) -> list[Path]:
    """Write the collected tables, every figure and the page; returns their paths."""
    written = {"runs.csv": runs_csv(results.records)}
    if len(results.history):
        written["history.csv"] = results.history.to_csv(index=False)
    if (wrong := errors.misclassified(results)) is not None:
        written["misclassified.csv"] = sheet(wrong)
    if advice.advised(results):
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
    """The page in markdown: the answer, contrasts and results first, the rest folded.

    `figures` are the titles of the figures that were drawn, by file name.
    """

    def shown(*names):
        return [f"![{figures[name]}]({name}.png)" for name in names if name in figures]

    unmet = len(results.experiment["constants"]["contrasts"]) - len(results.contrasts)
    missing = f"{count(unmet, 'planned contrast')} without finished runs that pair." * (unmet > 0)
    planned, others = (
        tables.comparisons(results, p) for p in (results.contrasts, results.comparisons)
    )
    differences, scores = shown("differences"), tables.accuracies(results)
    contrasts = {"## Planned contrasts": [planned, *differences * bool(planned), missing]}
    is_advised = advice.advised(results) is not None
    if is_advised:
        opening = {"## Answer": _answer(results, shown), **contrasts}
        closing = {"All results": [scores, *shown("overview")]}
    else:
        opening = {**contrasts, "## Results": [scores, *shown("accuracies", "overview")]}
        opening["## Findings"] = [_findings(results)]
        closing = {"Misclassified texts": [tables.misclassified(results)]}
    sections = {  # folded, but for headings with "##"
        **opening,
        "## Failed and unfinished runs": [tables.failed(results), _unfinished(results)],
        f"Exploratory comparisons: {'all other' if planned else 'all'} pairs": [
            others,
            FEWER_PAIRS * bool(is_advised and others),
            *differences * (not planned),
        ],
        "Learning, and single runs": [tables.single_runs(results), *shown(*LEARNING)],
        "Labels": [tables.by_label(results)],
        **closing,
        "How it was made": _made(results),
    }
    title = f"# Experiment “{escape(results.experiment['constants']['experiment'])}”"
    parts = [title, _what(results)]
    for heading, texts in sections.items():
        texts = list(filter(None, texts))
        if texts and heading.startswith("#"):
            parts += [heading, *texts]
        elif texts:
            parts += _folded(heading, *texts)
    return "\n\n".join(parts) + "\n"


def _folded(heading, *texts):
    return [f"<details>\n<summary>{heading}</summary>", *texts, "</details>"]


def _answer(results, shown):
    """The advice, its table, the advised method's errors, and the command for a final model."""
    advised = advice.advise(results)
    label, names = results.looks[advised.method].label, results.experiment["label_names"]
    of_labels = [table(errors.label_columns(results, advised.method))]
    if len(names) > MOST_LABELS:  # else the rest of the answer stands far below
        of_labels = _folded(f"Each of the {len(names)} labels", *of_labels)
    return [
        f"**{escape(advised.sentence)}**",
        *map(escape, advice.more_labels(results)),
        *map(escape, answer.larger_encoder(results)),
        table(answer.method_columns(results)),
        escape(" ".join(answer.notes(results))),
        *shown("accuracies"),
        f"### How {escape(label)} errs",
        *of_labels,
        *shown("confusion_matrix"),
        *map(escape, errors.frequent_errors(results, advised.method)),
        escape(errors.referral(results, advised.method)),
        tables.misclassified(results),
        "### A classifier of new texts",
        escape(f"{answer.final_sentence(results)}:"),
        code(answer.final_command(results)),
    ]


def _findings(results):
    """The best method, the methods not significantly different from it, and those with one seed."""
    best, scores = results.best, results.intervals.set_index("method")
    score = with_intervals(scores.loc[[best]], results.metric)[0]
    heading = f"{METRICS[results.metric].label}, %: {_named(results, [best])}, {score}"
    lines = [f"- **Highest test {heading}**."]
    pairs = results.pairs[(results.pairs[["method_a", "method_b"]] == best).any(axis=1)]
    others = pairs["method_a"].where(pairs["method_b"] == best, pairs["method_b"])
    alike = others[pairs["verdict"] != "significant"]
    if len(alike):
        lines[0] += f" There is **no** significant difference from {_named(results, alike)}."
    elif 0 < len(pairs) == len(scores) - 1:
        lines[0] += " It is significantly different from every other method."
    with_one_seed = scores.index[scores["seeds"] == 1].difference(results.fixed, sort=False)
    begun = "so far " * (len(results.experiment["runs"]) > len(results.records))
    if len(with_one_seed) and not results.is_folds:
        lines.append(
            f"- **Seeds were {begun}not varied for {_named(results, with_one_seed)}**: intervals "
            "and tests speak of these trained models on other test texts, not of training them "
            "again."
        )
    return "\n".join(lines)


def _unfinished(results):
    """How many of the experiment's runs were never begun, or have not ended."""
    missing = len(results.experiment["runs"]) - len(results.records)
    line = f"{missing} of {count(len(results.experiment['runs']), 'run')} not finished: the same "
    return f"{line}command goes on with what is left." * (missing > 0)


def _named(results, methods):
    return escape(", ".join(results.labels(methods)))


def _texts(results):
    """How many texts are trained on and tested, and how many of each label, in words."""
    constants, data = results.experiment["constants"], results.experiment["data"]
    names, labelled = results.experiment["label_names"], data["train"] + data["validation"]
    counts = np.bincount(results.predictions.labels, minlength=len(names))
    of_labels = [f"{escape(name)} {n:,}" for name, n in zip(names, counts, strict=True)]
    labels = some(of_labels, NAMED) + " labels" * (len(names) > NAMED)
    if not (folds := data["folds"]):
        redrawn = ", another training sample for each seed" * data["labels_redrawn"]
        return (
            f"{labelled:,} labelled texts in all, of which {data['validation']:,} "
            f"validate{redrawn}; {data['test']:,} test texts ({labels})"
        )
    tested, others = f"each tested in one of {folds} folds", "others"
    if limit := constants.get("test_examples"):
        tested = f"at most {limit:,} of each of {folds} folds, are tested"
        others = "texts of other folds"
    learnt = f"{labelled:,} of the {others}" if data["labels_redrawn"] else f"the {others}"
    return (
        f"{data['texts']:,} texts, {tested} by models that are trained on {learnt}; "
        f"tested: {labels}"
    )


def _what(results):
    """Methods, model, data, seeds, groups and machine; warnings about the data."""
    experiment, runs = results.experiment, results.runs
    constants, data = experiment["constants"], experiment["data"]
    end = "beginning" if constants.get("truncation") == "left" else "end"
    lines = [
        f"**{_named(results, runs['method'].unique())}**. Model: {escape(experiment['model'])}; "
        f"data: {escape(experiment['data_set'])}.",
        f"{_texts(results)}; up to {constants['max_tokens']} tokens "
        f"({percent(data['test_share_truncated'])} % of the test texts are longer, and truncated "
        f"at the {end}).",
    ]
    if not results.is_folds:
        lines.append(f"Seeds: {', '.join(map(str, sorted(runs['seed'].unique())))}.")
    if data["groups"]:
        splits = ", ".join(f"{number:,} {escape(name)}" for name, number in data["groups"].items())
        lines.append(f"Groups: {splits}; none is in two splits.")
    lines.append(f"Machine: {escape('; '.join(runs['device'].unique()))}.")
    return "\n\n".join(["\n".join(lines), *(f"**{escape(w)}**" for w in data["warnings"])])


def _made(results):
    """The command, notes on the data, versions, and the runs' constants and hyperparameters."""
    codes = dict.fromkeys(record.code for record in results.finished if record.code)
    experiment = results.experiment | {"code": ", ".join(codes)}
    known = ("started", "code", "python", "platform")
    lines = [*experiment["data"]["notes"]]
    lines += [f"{name}: {experiment[name]}" for name in known if experiment.get(name)]
    lines += [f"{name}: {number}" for name, number in experiment.get("libraries", {}).items()]
    first, *others = (record.depends_on for record in results.finished)
    constants = {k: v for k, v in first.items() if k.isupper()}
    constants = {k: v for k, v in constants.items() if all(each.get(k) == v for each in others)}
    methods = {record.method: record.hyperparameters for record in results.finished}  # of all seeds
    columns = {"method": results.labels(methods)}
    columns["hyperparameters"] = map(JSON, methods.values())
    return [
        code(experiment["command"]),
        *["\n".join(f"- {escape(line)}" for line in lines)] * bool(lines),
        table({"constant": constants, "value": map(JSON, constants.values())}),
        table(columns),
        "This page, from the files alone: `python -m evaluation.report` and this folder.",
    ]


def rewrite(folder: Path) -> list[Path]:
    """Make the figures and the page of a folder anew; it may be someone else's folder."""
    return write(Results.read(folder))


def main(
    arguments: list[str] | None = None,
    act: Callable[..., list[Path]] = rewrite,
    counts: Sequence[int] = (1,),
    expected: str = "give one folder of results, such as results/quick",
) -> int:
    """Call `act` with the folders on the command line, and print the paths that it returns.

    `counts` are the allowed numbers of folders. Returns the exit status, 0, or 2 for bad input.
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
