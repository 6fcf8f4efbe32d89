"""An experiment as evidence to keep: its page, and the tables of all its runs in a few small files.

    python -m evaluation.compact results/quick docs/results/quick

    experiment.json, runs.csv       as they are
    predictions.parquet             method, seed, label and logits (float16) of every test review
    history.parquet                 a row for each evaluation on the validation reviews
    report.md                       the page, made anew from these; with the figures that are there

Of a tuning, `python -m evaluation.compact results/quick-tuning docs/results` adds the rates that it
tried to docs/results/learning_rates.csv, in place of those of an earlier time, and draws them.

No text is kept: the page has no list of misclassified reviews.
Figures are kept by copying them to the folder: `python -m evaluation.report docs/results/quick`
draws those that it finds, and makes the same page again.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from boundary import replacing, write

from . import report
from .curves import tuning_figure
from .files import run_command
from .results import Results, runs_csv


def compact(source: Path, target: Path) -> list[Path]:
    """Write the experiment in `source` to `target` in its compact form; returns the paths."""
    if (tuning := source / "tuning.csv").exists():
        return _add_rates(tuning, target / "learning_rates.csv")
    results = Results.read(source)
    about = (source / "experiment.json").read_text(encoding="utf-8")
    written = [write(target / "experiment.json", about)]
    written.append(write(target / "runs.csv", runs_csv(results.records)))
    rows = []
    for (method, seed), logits in results.predictions.logits.items():
        names = [f"logit_{label}" for label in results.experiment["label_names"]]
        table = pd.DataFrame(_in_half(logits), columns=names)
        table.insert(0, "method", method)
        table.insert(1, "seed", seed)
        table.insert(2, "label", results.predictions.labels)
        rows.append(table)
    tables = {"predictions": pd.concat(rows), "history": results.history}
    for name, table in tables.items():
        if len(table):
            written.append(_write_parquet(target / f"{name}.parquet", table))
    return [*written, *report.write(Results.read(target))]


def _add_rates(source, path):
    """Put the rates of one tuning into the table of all."""
    tuned = pd.read_csv(source, keep_default_na=False)
    if path.exists():
        others = pd.read_csv(path, keep_default_na=False)
        tuned = pd.concat([others[~others["experiment"].isin(tuned["experiment"])], tuned])
    return [write(path, tuned.to_csv(index=False)), tuning_figure(path)]


def _in_half(logits):
    """(n, C) in float16, half of the bytes, and the same predictions where rounding makes ties."""
    half, rows, best = logits.astype(np.float16), np.arange(len(logits)), logits.argmax(1)
    above = np.nextafter(half.max(1), np.float16(np.inf))
    half[rows, best] = np.where(half.argmax(1) == best, half[rows, best], above)
    return half


def _write_parquet(path, table):
    """With the bytes of a number apart: those that hold its size are alike, and pack well."""
    numbers = [name for name in table if table[name].dtype.kind == "f"]
    packed = {"compression": "zstd", "compression_level": 19, "use_byte_stream_split": numbers}
    packed["use_dictionary"] = [name for name in table if name not in numbers]
    with replacing(path) as part:
        table.to_parquet(part, index=False, **packed)
    return path


def main(arguments: list[str] | None = None) -> int:
    """Write one experiment in its compact form; returns the exit status, 0 or 2."""
    expected = "give a folder of results and where to: results/quick docs/results/quick"
    return run_command(compact, arguments, range(2, 3), expected)


if __name__ == "__main__":
    sys.exit(main())
