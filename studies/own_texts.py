"""Is the advice good? Four tasks, each as if it were a user's file, with the truth known.

    python -m studies.own_texts FOLDER [--samples 20] [--texts 300 800] [--tasks ...]

A sample of a task's pool (see studies/coverage.py) is written as a CSV file, and compared by
`python finetuning.py --dataset FILE.csv` with the methods below, as one types it. The truth of a
method is the mean accuracy of its five models on 500 texts that are not in the sample, nor of its
films. The regret is how far the advised method's truth is below that of the best of these methods.
FOLDER keeps what is finished, so that a stopped study goes on. It writes

    docs/results/own_texts.csv     a row for each sample and method
    docs/own_texts.png             the regret of the advice, of taking the highest accuracy, and of
                                   always taking one method
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
from evaluation.results import Results
from evaluation.style import plt, save, set_style
from modeling import load_finetuned
from studies.coverage import TASKS, draw, pool_of

METHODS = ("tfidf", "probe", "probe+tfidf", "head", "lora", "lora+tfidf")
FOLDS, LEFT_OUT = 5, 500
SIZES = (300, 800)
DOCS = Path("docs")
ADVICE, HIGHEST = "the advice", "the highest accuracy"


def test_sample(rows: pd.DataFrame, label_names: list[str], size: int, seed: int) -> dict:
    """What the command says of one sample, and the truth: the advice, and a dict for each method.

    `rows` are the pool's (text, label and perhaps group). The same sample as studies/coverage.py's.
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
    numbers = {method: {"truth": truth[method]} for method in METHODS}
    for method in METHODS:
        numbers[method] |= dict(zip(columns, intervals.loc[method, columns].tolist(), strict=True))
    return {"advised": results.advised, "methods": numbers}


def compare(file: Path, grouped: bool) -> Results:
    """The results of the command that a user types."""
    command = [sys.executable, "finetuning.py", "--dataset", str(file), "--methods", *METHODS]
    command += ["--results", str(file.parent), *["--group-column", "group"] * grouped]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return Results.read(file.with_suffix(""))


def accuracies_on(table: pd.DataFrame, results: Results) -> dict[str, float]:
    """Of each method, the mean accuracy of its folds' models on the texts of `table`."""
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
        part = part.assign(is_advised=part["method"] == sample["advised"])
        part["regret"] = part["truth"].max() - part["truth"]
        part.insert(0, "task", task)
        parts.append(part.assign(texts=texts, seed=seed))
    return pd.concat(parts, ignore_index=True)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """A row for each task and number of texts; shares and points in %.

    `regret` and `worst_regret` are the mean's and the largest of the samples, `regret_highest` is
    that of taking the highest accuracy, `regret_<method>` of always taking this method. `covered`
    are the intervals of all methods that hold the truth; it is known to two points only, so that
    they hold it less often than they should.
    """
    rows = []
    for (task, texts), part in table.groupby(["task", "texts"], sort=False):
        advised = part[part["is_advised"]]
        is_inside = part["truth"].between(part["accuracy_low"], part["accuracy_high"])
        row = {"task": task, "texts": texts, "samples": len(advised)}
        row["best_is_advised"] = 100 * (advised["regret"] < 1e-9).mean()
        row["within_a_point"] = 100 * (advised["regret"] < 0.01).mean()
        row |= {"regret": 100 * advised["regret"].mean()}
        row |= {"worst_regret": 100 * advised["regret"].max(), "covered": 100 * is_inside.mean()}
        highest = part.loc[part.groupby("seed")["accuracy"].idxmax()]
        row |= {"regret_highest": 100 * highest["regret"].mean()}
        of_method = 100 * part.groupby("method")["regret"].mean()
        counts = advised["method"].value_counts()
        row |= {f"regret_{method}": of_method[method] for method in METHODS}
        row |= {f"advised_{method}": counts.get(method, 0) for method in METHODS}
        rows.append(row)
    return pd.DataFrame(rows)


def figure(summaries: pd.DataFrame):
    """Points below the best: the advice, and always one method; a panel for each task and size."""
    set_style()
    drawn, panels = plt.subplots(
        *summaries[["task", "texts"]].nunique(),
        squeeze=False,
        sharex=True,
        sharey=True,
    )
    drawn.set_size_inches(3.6 * panels.shape[1] + 1.6, 1.7 * panels.shape[0] + 0.6)
    policies = [ADVICE, HIGHEST, *(f"always {method}" for method in METHODS)]
    for panel in panels.flat:
        panel.set_axis_off()
    places = {task: i for i, task in enumerate(summaries["task"].unique())}
    sizes = {texts: i for i, texts in enumerate(sorted(summaries["texts"].unique()))}
    for row in summaries.to_dict("records"):
        panel = panels[places[row["task"]], sizes[row["texts"]]]
        panel.set_axis_on()
        values = [row["regret"], *(row[f"regret_{each}"] for each in ("highest", *METHODS))]
        colours = ["tab:blue", *["0.7"] * (len(METHODS) + 1)]
        bars = panel.barh(policies, values, color=colours)
        panel.bar_label(bars, fmt="%.1f", padding=2, fontsize=8)
        panel.set_title(f"{row['task']}, {row['texts']} texts, {row['samples']} samples")
        panel.margins(x=0.15)
        panel.grid(visible=False)
    panels[0, 0].invert_yaxis()  # of all
    note = "accuracy below that of the best method in the table, mean over the samples, in points"
    return drawn, note, ()


def main(arguments: list[str] | None = None) -> None:
    """Test what samples are missing, a round of all tasks at a time; write tables and figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="what is finished is kept here")
    parser.add_argument("--samples", type=int, default=20, help="of each task and size")
    parser.add_argument("--texts", type=int, nargs="+", default=SIZES)
    parser.add_argument("--tasks", nargs="+", default=TASKS, choices=TASKS)
    asked = parser.parse_args(arguments)
    samples = {}
    for seed, texts, task in product(range(asked.samples), asked.texts, asked.tasks):
        path = asked.folder / f"own-{task}-{texts}-{seed}.json"
        if not path.exists():
            rows, label_names = pool_of(task, asked.folder)[0], names_of(task)
            write(path, json.dumps(test_sample(rows, label_names, texts, seed)))
            print(path.name, flush=True)
        samples[task, texts, seed] = json.loads(path.read_text())
    table = table_of(samples)
    table.to_csv(DOCS / "results" / "own_texts.csv", index=False, float_format="%.6g")
    rows = summary(table)
    subtitle = "Five folds of a user's file; accuracy on 500 other texts"
    save(DOCS / "own_texts.png", figure(rows), "Is the advice good?", subtitle)
    print(rows.to_string(index=False, float_format="{:.1f}".format))


def names_of(task: str) -> list[str]:
    """The names of a bundled task's labels."""
    return load_task(task).label_names


if __name__ == "__main__":
    main()
