"""Is the advice good? Four tasks, each as if it were a user's file, with the truth known.

    python -m studies.own_texts FOLDER [--samples 20] [--texts 300 800] [--tasks ...]

A sample of a task's pool (see studies/coverage.py) is written as a CSV file. `python finetuning.py
--dataset FILE.csv`, as one types it, compares the methods below on this file. The truth of a method
is the mean accuracy of its five models on 500 texts that are not in the sample, nor of its films.
The regret is the truth of the best method minus the truth of the method taken. FOLDER keeps
finished samples, so that a stopped study goes on. The study writes

    docs/results/own_texts.csv     a row for each sample and method
    docs/own_texts.png             the regrets of taking the advice (the highest accuracy), the
                                   simplest method within a standard error, or always the same one
"""

import argparse
import json
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from boundary import write
from data_utils import load_task
from evaluation import advice
from evaluation.results import Results
from evaluation.style import looks, plt, save, set_style
from modeling import load_finetuned
from studies.coverage import TASKS, draw, pool_of

METHODS = ("tfidf", "probe", "probe+tfidf", "head", "lora", "lora+tfidf")
FOLDS, LEFT_OUT = 5, 500
SIZES = (300, 800)
DOCS = Path("docs")
POLICIES = ["the advice", "the simplest within a standard error"]


def test_sample(rows: pd.DataFrame, label_names: list[str], size: int, seed: int) -> dict:
    """One sample: the simplest method within a standard error, each method's accuracy and truth.

    `rows` are the pool's (text, label and perhaps group). studies/coverage.py has the same sample
    for a size and seed.
    """
    sample, rest = draw(rows, size, seed)
    names = np.array(label_names, object)
    table = rows.assign(label=names[rows["label"]])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "own.csv"
        table.iloc[sample].to_csv(file, index=False)
        results = compare(file, "group" in rows)
        left_out = table.iloc[np.random.default_rng(0).permutation(rest)[:LEFT_OUT]]
        truth = accuracies_on(left_out, results)
    intervals = results.intervals.set_index("method")
    columns = ["accuracy", "accuracy_low", "accuracy_high"]
    numbers = pd.DataFrame({"truth": truth}).join(intervals.loc[list(truth), columns])
    return {"simplest": advice.advise(results).simplest, "methods": numbers.to_dict("index")}


def compare(file: Path, grouped: bool) -> Results:
    """The results of the command that a user types."""
    command = [sys.executable, "finetuning.py", "--dataset", str(file), "--methods", *METHODS]
    command += ["--results", str(file.parent), *["--group-column", "group"] * grouped]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return Results.read(file.with_suffix(""))


def accuracies_on(table: pd.DataFrame, results: Results) -> dict[str, float]:
    """Each method's accuracy on the texts of `table`, the mean over its folds' models."""
    names, right = np.array(results.experiment["label_names"], object), {}
    for fold in range(FOLDS):
        logits = {}
        for method in METHODS:
            if "+" not in method:
                classify = load_finetuned(results.folder / f"{method}-seed{fold}")
                logits[method] = np.log(classify.probabilities(table["text"]).numpy())
            else:
                logits[method] = sum(logits[part] for part in method.split("+"))
            predicted = names[logits[method].argmax(axis=1)]
            right.setdefault(method, []).append((predicted == table["label"]).mean())
    return {method: float(np.mean(of_folds)) for method, of_folds in right.items()}


# ---------------------------------------------------------------------------- what it says


def table_of(samples: dict[tuple[str, int, int], dict]) -> pd.DataFrame:
    """A row for each sample (task, texts, seed) and method: its estimate and its truth."""
    parts = []
    for (task, texts, seed), sample in samples.items():
        part = pd.DataFrame(sample["methods"]).T.rename_axis("method").reset_index()
        part["is_advised"] = part.index == part["accuracy"].astype(float).idxmax()
        part["is_simplest"] = part["method"] == sample["simplest"]
        part["regret"] = part["truth"].max() - part["truth"]
        part.insert(0, "task", task)
        parts.append(part.assign(texts=texts, seed=seed))
    return pd.concat(parts, ignore_index=True)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """A row for each task and number of texts: mean regrets over the samples, in points.

    `regret` is for the advice, `regret_simplest` for the simplest method within a standard error,
    `regret_<method>` for always taking this method.
    """
    rows = []
    for (task, texts), part in table.groupby(["task", "texts"], sort=False):
        advised = part[part["is_advised"]]
        row = {"task": task, "texts": texts, "samples": len(advised)}
        row |= {"regret": 100 * advised["regret"].mean()}
        row |= {"regret_simplest": 100 * part.loc[part["is_simplest"], "regret"].mean()}
        of_method = 100 * part.groupby("method")["regret"].mean()
        row |= {f"regret_{method}": of_method[method] for method in METHODS}
        rows.append(row)
    return pd.DataFrame(rows)


def figure(summaries: pd.DataFrame):
    """Points below the best method, for each rule; a panel for each number of texts and task."""
    set_style()
    sizes, tasks = (list(summaries[name].unique()) for name in ("texts", "task"))
    drawn, panels = plt.subplots(len(sizes), len(tasks), squeeze=False, sharex=True, sharey=True)
    drawn.set_size_inches(2.2 * len(tasks) + 2.6, 2.4 * len(sizes) + 0.5)
    drawn.supxlabel("points below the best method", fontsize=10)
    policies = [*POLICIES, *(f"always {look.label}" for look in looks(METHODS, {}).values())]
    for panel in panels.flat:
        panel.set_axis_off()
    for row in summaries.to_dict("records"):
        panel = panels[sizes.index(row["texts"]), tasks.index(row["task"])]
        panel.set_axis_on()
        values = [row["regret"], *(row[f"regret_{each}"] for each in ("simplest", *METHODS))]
        colours = ["tab:blue", *["0.7"] * (len(METHODS) + 1)]
        bars = panel.barh(policies, values, color=colours)
        panel.bar_label(bars, fmt="%.1f", padding=2, fontsize=8)
        samples = f"{row['texts']} texts, {row['samples']} samples"
        panel.set_title(f"{row['task']}\n{samples}", fontsize=10)
        panel.margins(x=0.25)
        panel.grid(visible=False)
    panels[0, 0].invert_yaxis()  # all panels share it
    return drawn, "bars: means over the samples", ()


def tell(folder: Path) -> None:
    """Write table and figure of the finished samples."""
    samples = {}
    for path in sorted(folder.glob("own-*.json")):
        task, texts, seed = path.stem.removeprefix("own-").rsplit("-", 2)
        samples[task, int(texts), int(seed)] = json.loads(path.read_text())
    order = sorted(samples, key=lambda sample: (TASKS.index(sample[0]), *sample[1:]))
    table = table_of({sample: samples[sample] for sample in order})
    table.to_csv(DOCS / "results" / "own_texts.csv", index=False, float_format="%.6g")
    rows = summary(table)
    subtitle = "Five folds of a user's file; accuracy on 500 other texts"
    save(DOCS / "own_texts.png", figure(rows), "Is the advice good?", subtitle)
    print(rows.to_string(index=False, float_format="{:.1f}".format))


def main(arguments: list[str] | None = None) -> None:
    """Test the samples that are missing, a round of all tasks at a time; write table and figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="what is finished is kept here")
    parser.add_argument("--samples", type=int, default=20, help="of each task and size")
    parser.add_argument("--texts", type=int, nargs="+", default=SIZES)
    parser.add_argument("--tasks", nargs="+", default=TASKS, choices=TASKS)
    asked = parser.parse_args(arguments)
    for seed, texts, task in product(range(asked.samples), asked.texts, asked.tasks):
        path = asked.folder / f"own-{task}-{texts}-{seed}.json"
        if not path.exists():
            rows, _ = pool_of(task, asked.folder)
            write(path, json.dumps(test_sample(rows, load_task(task).label_names, texts, seed)))
            print(path.name, flush=True)
    tell(asked.folder)


if __name__ == "__main__":
    main()
