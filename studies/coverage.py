"""Do intervals with five folds hold what they claim? Samples of real tasks, with the truth known.

    python -m studies.coverage FOLDER [samples]

A pool of 6,000 texts of each bundled task stands for the population. A sample of 800 or 300 of them
(of imdb by film) stands for a user's file: TF-IDF, the probe and both together are tested on it in
five folds. The truth is the difference of the five models' mean accuracies on the texts left out.
It is known only up to its own standard error. Before the study counts whether the intervals hold
the truth, it widens them by this error. The penalties of both classifiers are chosen on the first
sample, for all samples: choosing them in each fold would take most of the time. FOLDER keeps
features and finished samples, so that a stopped run goes on; docs/results/coverage.csv has the
results of the finished samples.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import csr_array
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits
from tqdm import tqdm

import data_utils
import hardware
import modeling
from boundary import replacing, write
from data_utils.dividing import fold_of
from evaluation import statistics
from evaluation.metrics import METRICS, PLANNABLE
from evaluation.stored import Predictions
from modeling.baseline import INVERSE_PENALTIES, VECTORIZER
from modeling.inference import features, tokens_at_once
from modeling.regression import choose_penalty, standardise

FILE = Path("docs/results/coverage.csv")
TASKS = ("rotten-tomatoes", "imdb", "r8", "20newsgroups")
POOL, SIZES, FOLDS = 6_000, (800, 300), 5
FEWEST = 20  # samples of a task and size: with fewer, the table has no row for them
TOKENS = 128
METHODS = ("tfidf", "probe", "probe+tfidf")
PAIRS = (("tfidf", "probe"), ("probe+tfidf", "probe"))


def pool_of(name: str, folder: Path) -> tuple[pd.DataFrame, dict]:
    """The pool's texts, labels and perhaps groups, and the inputs of the two classifiers.

    These are counts of words and of pairs of words (N, V), and MiniLM's features (N, (L + 1) d).
    """
    folder.mkdir(parents=True, exist_ok=True)
    table, path = folder / f"{name}.parquet", folder / f"{name}.npy"
    if not path.exists():
        task = data_utils.load_task(name)
        order = shuffle(task.rows, seed=0)[:POOL]
        task.rows.iloc[order].reset_index(drop=True).to_parquet(table)
        with replacing(path) as part, part.open("wb") as file:
            np.save(file, features_of(pd.read_parquet(table), task.label_names))
    rows, features = pd.read_parquet(table), np.load(path)
    counts = CountVectorizer(ngram_range=VECTORIZER["ngram_range"]).fit_transform(rows["text"])
    return rows, {"tfidf": csr_array(counts), "probe": features.reshape(len(features), -1)}


def features_of(rows: pd.DataFrame, label_names: list[str]) -> np.ndarray:
    """MiniLM's means over tokens, of the embeddings and after each block, (N, L + 1, d)."""
    encoder = modeling.load_encoder("minilm", label_names, TOKENS)
    device = hardware.choose_device()
    model = modeling.METHODS["head"](encoder.pretrained, "layers").to(device)
    split = data_utils.tokenise(rows["text"], rows["label"], encoder.tokenizer).to(device)
    return features(model, split, tokens_at_once(TOKENS, device, training=False))


def shuffle(rows: pd.DataFrame, seed: int) -> np.ndarray:
    """The places of the texts in random order; with groups, whole groups in random order."""
    random = np.random.default_rng(seed)
    if "group" not in rows:
        return random.permutation(len(rows))
    groups, names = pd.factorize(rows["group"])
    return np.argsort(random.permutation(len(names))[groups], kind="stable")


def draw(rows: pd.DataFrame, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The places in the pool of a sample, and of the texts left out, which are of other groups."""
    places = np.arange(len(rows))
    if "group" not in rows:
        rest, sample = train_test_split(
            places, test_size=size, stratify=rows["label"], random_state=seed
        )
        return sample, rest
    sample = shuffle(rows, seed)[:size]
    return sample, places[~rows["group"].isin(rows["group"].iloc[sample])]


def groups_of(rows: pd.DataFrame, sample: np.ndarray) -> np.ndarray | None:
    return rows["group"].to_numpy(object)[sample] if "group" in rows else None


def tfidf(counts: csr_array, train: np.ndarray) -> tuple[csr_array, Callable]:
    """TF-IDF features as in modeling/baseline.py, with the training texts' words and weights.

    Returns the features (n, V) of the texts `train`, and a function for other texts' features. The
    pool's words are counted once: cutting texts into words takes most of TfidfVectorizer's time.
    """
    texts_with = np.bincount(counts[train].indices, minlength=counts.shape[1])
    counts = counts[:, texts_with >= 2]
    weights = TfidfTransformer(sublinear_tf=True).fit(counts[train])
    return weights.transform(counts[train]), lambda texts: weights.transform(counts[texts])


def probe(features: np.ndarray, train: np.ndarray) -> tuple[np.ndarray, Callable]:
    """Like `tfidf`, the encoder's features, standardised and rotated (modeling/regression.py)."""
    scaler, z, back = standardise(features[train])
    directions = back(np.eye(z.shape[1], dtype=z.dtype)).T
    return z, lambda texts: scaler.transform(features[texts]) @ directions


READERS = {"tfidf": tfidf, "probe": probe}


def choose(rows: pd.DataFrame, inputs: dict, size: int) -> dict[str, float]:
    """Each classifier's inverse penalty of lowest cross-validated loss on the first sample."""
    sample, chosen = draw(rows, size, 0)[0], {}
    labels, groups = rows["label"].to_numpy()[sample], groups_of(rows, sample)
    for name, read in READERS.items():
        seen, _ = read(inputs[name], sample)
        chosen[name], _ = choose_penalty(INVERSE_PENALTIES[name], seen, labels, groups)
    return chosen


def test(rows, inputs: dict, size: int, seed: int, penalties: dict[str, float]) -> dict:
    """One sample in five folds: the predictions of its texts, and of all texts left out.

    `inside` (methods, n) has the predictions by the model of each text's fold, `outside` (methods,
    folds, N) by every fold's model, and -1 for the sample's texts and its groups.
    """
    sample, rest = draw(rows, size, seed)
    labels = rows["label"].to_numpy()
    folds = fold_of(labels[sample], groups_of(rows, sample), FOLDS, seed)
    inside = np.zeros((len(METHODS), size), np.int8)
    outside = np.full((len(METHODS), FOLDS, len(rows)), -1, np.int8)
    for fold in range(FOLDS):
        train, held_out = sample[folds != fold], sample[folds == fold]
        tested, logits = np.concatenate([held_out, rest]), []
        for name, read in READERS.items():
            seen, of_others = read(inputs[name], train)
            model = LogisticRegression(C=penalties[name], max_iter=1000).fit(seen, labels[train])
            logits.append(model.predict_log_proba(of_others(tested)))
        for method, each in enumerate((*logits, sum(logits))):
            inside[method, folds == fold] = each.argmax(1)[: len(held_out)]
            outside[method, fold, rest] = each.argmax(1)[len(held_out) :]
    return {"sample": sample, "folds": folds, "inside": inside, "outside": outside}


# ---------------------------------------------------------------------------- what it says


def judge(rows: pd.DataFrame, samples: list[dict]) -> pd.DataFrame:
    """A row for each sample, pair and metric: how far off the truth is, in half-widths.

    "bayle" is for the theorem's interval, "widened" for the interval that we give.
    """
    labels, judged = rows["label"].to_numpy(), []
    for metric, sample in product(PLANNABLE, samples):
        values = values_left_out(metric, labels, sample["outside"])
        is_out = np.isfinite(values[0])
        scores = predictions_of(rows, sample).scores(metric)
        for pair in statistics.compare([scores], PAIRS).itertuples():
            a, b = METHODS.index(pair.method_a), METHODS.index(pair.method_b)
            true, error = estimate((values[a] - values[b])[is_out], rows[is_out])
            middle, half = (pair.high + pair.low) / 2, (pair.high - pair.low) / 2
            row = {"metric": metric, "pair": f"{pair.method_a} - {pair.method_b}"}
            for name, width in (("bayle", half / statistics.FOLDS_FACTOR), ("widened", half)):
                row[f"half_width_{name}"] = width
                row[name] = abs(middle - true) / np.hypot(width, 1.96 * error)
            judged.append(row)
    return pd.DataFrame(judged)


def values_left_out(metric: str, labels: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """The metric's value for each text left out, the mean over the folds' models, (methods, N)."""
    values = np.full((len(METHODS), len(labels)), np.nan)
    rest = outside[0, 0] >= 0
    for method, predicted in enumerate(outside[:, :, rest]):
        logits = np.eye(labels.max() + 1)[predicted.ravel()]
        each = METRICS[metric].compute(np.tile(labels[rest], FOLDS), logits)
        values[method, rest] = each.reshape(FOLDS, -1).mean(axis=0)
    return values


def predictions_of(rows: pd.DataFrame, each: dict) -> Predictions:
    """A sample's predictions, in the form that an experiment with folds has."""
    sample, classes = each["sample"], rows["label"].max() + 1
    logits = {
        method: {
            fold: np.eye(classes, dtype=np.float32)[inside[each["folds"] == fold]]
            for fold in range(FOLDS)
        }
        for method, inside in zip(METHODS, each["inside"], strict=True)
    }
    groups = pd.factorize(rows["group"].iloc[sample])[0] if "group" in rows else None
    labels = rows["label"].to_numpy()[sample]
    return Predictions(labels, logits, sample, groups, each["folds"])


def estimate(values: np.ndarray, rows: pd.DataFrame) -> tuple[float, float]:
    """The mean of the values for the texts left out, and its standard error; groups are whole."""
    groups = pd.factorize(rows["group"])[0] if "group" in rows else np.arange(len(rows))
    rest = np.bincount(groups, values - values.mean())
    return values.mean(), (rest**2).sum() ** 0.5 / len(values)


def summary(judged: pd.DataFrame) -> pd.DataFrame:
    """Coverage (%), half-widths (points) and `factor`, by task, size, metric and pair.

    `factor` says by how much errors exceed Bayle's intervals: the errors' root mean square, in
    standard errors.
    """
    keys, table = ["task", "texts", "metric", "pair"], {}
    parts = judged.groupby(keys, sort=False)
    table["samples"] = parts.size()
    for name in ("bayle", "widened"):
        table[f"half_width_{name}"] = 100 * parts[f"half_width_{name}"].mean()
        table[f"covers_{name}"] = 100 * parts[name].agg(lambda off: (off <= 1).mean())
    table["factor"] = 1.96 * parts["bayle"].agg(lambda off: (off**2).mean() ** 0.5)
    return pd.DataFrame(table).reset_index()


def test_once(name: str, pool: tuple, sample: tuple[int, int], folder: Path) -> None:
    """Test a sample (size, seed) of a task, unless its file is there."""
    size, seed = sample
    path, chosen = folder / f"{name}-{size}-{seed}.npz", folder / f"{name}-{size}.json"
    if path.exists():
        return
    if not chosen.exists():
        write(chosen, json.dumps(choose(*pool, size)))
    penalties = json.loads(chosen.read_text())
    with replacing(path) as part:
        np.savez_compressed(part, **test(*pool, size, seed, penalties))


def main(folder: Path, most: int) -> None:
    """Test the samples that are missing, a round of all tasks at a time, and write the table."""
    pools = {name: pool_of(name, folder) for name in TASKS}
    with threadpool_limits(1):
        for seed, size in product(tqdm(range(most), desc="samples of each task"), SIZES):
            for name, pool in pools.items():
                test_once(name, pool, (size, seed), folder)
    tell(folder)


def finished(folder: Path) -> Iterator[tuple[str, int, pd.DataFrame, list[dict]]]:
    """Task, number of texts, pool and samples, for each task and number with enough samples."""
    for name, size in product(TASKS, SIZES):
        files = sorted(folder.glob(f"{name}-{size}-*.npz"))
        if len(files) >= FEWEST:
            samples = [dict(np.load(file)) for file in files]
            yield name, size, pd.read_parquet(folder / f"{name}.parquet"), samples


def tell(folder: Path) -> None:
    """Write the table of the finished samples."""
    tables = [
        summary(judge(rows, samples).assign(task=name, texts=size))
        for name, size, rows, samples in finished(folder)
    ]
    pd.concat(tables).to_csv(FILE, index=False, float_format="%.4g")


if __name__ == "__main__":
    os.nice(19)
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 200)
