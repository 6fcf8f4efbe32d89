"""Which method for my texts: how long does the answer take, and how good is it?

    python -m studies.whole_question                   all sides in turn
    python -m studies.whole_question texts imdb        imdb.csv and imdb-folds.csv, 800 texts
    python -m studies.whole_question peft imdb.csv     one side alone: ours, ours-all, peft, ...

The first command writes docs/results/whole_question.csv. A side is a new process with an empty
cache: its minutes are from the start of Python to the last prediction, its accuracy is over all
texts that it tested. The table has the medians of the repeats. studies/whole_question_sides.py says
what was tried for each side.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from itertools import product
from pathlib import Path

import pandas as pd

from studies import whole_question_sides

TEXTS, FOLDS = 800, 5
DATASETS = ("imdb", "rotten-tomatoes")
LIBRARIES = ("torch", "transformers", "peft", "scikit-learn")
KEY = ["dataset", "side", "method"]
RESULT = Path("docs/results/whole_question.csv")


def write_texts(name: str, folder: Path) -> Path:
    """Write NAME.csv, with equally many texts of each label, and NAME-folds.csv, with their splits.

    `finetuning.py` makes the same folds. Where films are known, no two reviews are of one film, so
    that no fold has seen the films of its test.
    """
    from data_utils import load_task

    task = load_task(name)
    rows = task.rows.sample(frac=1, random_state=0)
    if task.group:
        rows = rows.drop_duplicates("group")
    rows = rows.groupby("label").head(TEXTS // len(task.label_names)).sort_index()
    labels = [task.label_names[label] for label in rows["label"]]
    file = folder / f"{name}.csv"
    rows.assign(label=labels)[["text", "label"]].to_csv(file, index=False)
    task, folds = load_task(str(file)), {}
    for fold in range(FOLDS):
        division = task.divide(fold, folds=FOLDS)
        folds[fold] = pd.Series("train", index=range(len(task.rows)))
        folds[fold][division.validation] = "validation"
        folds[fold][division.test] = "test"
    pd.DataFrame(folds).to_csv(whole_question_sides.folds_file(file), index=False)
    return file


def answer(side: str, file: Path) -> dict[str, dict[str, float]]:
    """A side's methods, each with how many texts it tested, and its accuracy."""
    texts = pd.read_csv(file, keep_default_na=False)
    answers = {}
    for method, predicted in whole_question_sides.SIDES[side](file).items():
        correct = predicted == texts["label"][predicted.index]
        answers[method] = {"tested": len(predicted), "accuracy": round(float(correct.mean()), 5)}
    return answers


def time_side(side: str, file: Path) -> list[dict]:
    """A row for each method of a side, in a new process with an empty cache."""
    command = [sys.executable, "-m", "studies.whole_question", side, str(file)]
    with tempfile.TemporaryDirectory() as cache:
        offline = {"HF_HOME": cache, "HF_HUB_OFFLINE": "1"}
        start = time.perf_counter()
        done = subprocess.run(
            command, env=os.environ | offline, stdout=subprocess.PIPE, text=True, check=True
        )
        minutes = (time.perf_counter() - start) / 60
    row = {"dataset": file.stem, "side": side, "minutes": minutes}
    answers = json.loads(done.stdout.splitlines()[-1])
    return [row | {"method": method} | answer for method, answer in answers.items()]


def table(rows: list[dict]) -> pd.DataFrame:
    """A row for each data set, side and method: medians over the repeats."""
    groups = pd.DataFrame(rows).groupby(KEY, sort=False)
    return groups.agg(
        minutes=("minutes", "median"),
        fastest=("minutes", "min"),
        slowest=("minutes", "max"),
        accuracy=("accuracy", "median"),
        tested=("tested", "first"),
        repeats=("minutes", "count"),
    ).reset_index()


def where() -> dict[str, str]:
    """The machine, the versions and the commit."""
    import hardware

    versions = [f"{name} {metadata.version(name)}" for name in LIBRARIES]
    machine = hardware.describe(hardware.choose_device())
    return {"machine": machine, "versions": ", ".join(versions), "code": hardware.commit()}


def measure(asked: argparse.Namespace) -> None:
    """All sides in turn, `asked.repeats` times; the table is written after each side."""
    rows, facts = [], where()
    with tempfile.TemporaryDirectory() as folder:
        files = [write_texts(name, Path(folder)) for name in asked.datasets]
        turns = product(range(asked.repeats), files, asked.sides)
        for number, file, side in turns:
            rows += time_side(side, file)
            print(f"{number + 1}: {rows[-1]}", flush=True)
            results = table(rows).assign(**facts)
            asked.into.parent.mkdir(parents=True, exist_ok=True)
            results.to_csv(asked.into, index=False, float_format="%.4g")
    print(table(rows).to_string(index=False, float_format="{:.3g}".format))


def main(arguments: list[str]) -> None:
    """Run one side, write a task's texts, or measure all sides."""
    if arguments[:1] == ["texts"]:
        print(write_texts(arguments[1], Path()))
    elif arguments[:1] and arguments[0] in whole_question_sides.SIDES:
        print(json.dumps(answer(arguments[0], Path(arguments[1]))))
    else:
        sides = list(whole_question_sides.SIDES)
        parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
        parser.add_argument("--datasets", nargs="+", default=DATASETS, help="names, not files")
        parser.add_argument("--sides", nargs="+", default=sides, choices=sides)
        parser.add_argument("--repeats", type=int, default=3)
        parser.add_argument("--into", type=Path, default=RESULT, help="a CSV file")
        measure(parser.parse_args(arguments))


if __name__ == "__main__":
    main(sys.argv[1:])
