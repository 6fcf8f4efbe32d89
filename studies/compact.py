"""An experiment as evidence to keep: its page, and the tables of all its runs in a few small files.

    python -m studies.compact results/quick docs/results/quick

    experiment.json, runs.csv       as they are, but without RESULTS, a folder of one machine
    predictions.parquet             of each run and test text: label, predicted label, confidence
                                    to four decimals, which halves the file, and its group's
                                    number, if there are groups; with folds its place in the data
    report.md                       the page, made anew from these; with the figures that are there

No text is kept, and no learning curve: the page has no list of misclassified texts, but each
run's best epoch and its last. A folder that holds anything but an earlier compact form of the same
experiment is refused.
Figures are kept by copying them to the folder: `python -m evaluation.report docs/results/quick`
draws those that it finds, and makes the same page again.
"""

import json
import shlex
import sys
from itertools import pairwise
from pathlib import Path

import pandas as pd
from scipy.special import softmax

from boundary import BadInput, reading, replacing, write
from evaluation import report
from evaluation.files import run_command
from evaluation.results import Results, runs_csv
from records import run_folders

HERE = {"results": "results"}  # where the command without an option puts them


def compact(source: Path, target: Path) -> list[Path]:
    """Write the experiment in `source` to `target` in its compact form; returns the paths."""
    results = Results.read(source)
    _check(target, results.experiment)
    about = results.experiment | {"constants": results.experiment["constants"] | HERE}
    about["command"] = _without_results(about["command"])
    written = [write(target / "experiment.json", json.dumps(about, indent=2) + "\n")]
    written.append(write(target / "runs.csv", runs_csv(results.records)))
    rows = []
    predictions = results.predictions
    for (method, seed), logits in predictions.logits.items():
        places = predictions.tested(seed)
        confidence = softmax(logits, axis=1).max(axis=1).round(4)
        row = {"method": method, "seed": seed, "label": predictions.labels[places]}
        row |= {"predicted": logits.argmax(1), "confidence": confidence}
        row |= {"row": predictions.rows[places]} if results.is_folds else {}
        row |= {} if predictions.groups is None else {"group": predictions.groups[places]}
        rows.append(pd.DataFrame(row))
    with replacing(target / "predictions.parquet") as part:
        packed = {"compression": "zstd", "compression_level": 19}
        pd.concat(rows).to_parquet(part, index=False, **packed)
    written.append(target / "predictions.parquet")
    return [*written, *report.write(Results.read(target))]


def _without_results(command):
    words = shlex.split(command)
    kept = [
        word
        for before, word in pairwise(["", *words])
        if "--results" not in (before, word) and not word.startswith("--results=")
    ]
    return " ".join(word if word == "&&" else shlex.quote(word) for word in kept)


def _check(target, about):
    """Raise `BadInput` where the folder holds anything but an earlier form of this experiment."""
    if not target.exists() or not any(target.iterdir()):
        return
    then, path = {}, target / "experiment.json"
    if path.exists():
        with reading(str(path)):
            then = json.loads(path.read_text(encoding="utf-8"))
    same = [
        (about["constants"]["experiment"], about.get("digests"))
        for about in (about, {"constants": {"experiment": None}} | then)
    ]
    if run_folders(target) or same[0] != same[1]:
        raise BadInput(f"{target} is there and is not of this experiment; choose another folder")


def main(arguments: list[str] | None = None) -> int:
    """Write one experiment in its compact form; returns the exit status, 0 or 2."""
    expected = "give a folder of results and where to: results/quick docs/results/quick"
    return run_command(compact, arguments, range(2, 3), expected)


if __name__ == "__main__":
    sys.exit(main())
