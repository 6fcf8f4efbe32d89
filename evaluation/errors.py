"""How a method errs on one's own texts: which labels, how sure it was, and which texts."""

import math
import unicodedata

import numpy as np
import pandas as pd
from scipy.special import softmax
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from boundary import plain_cell, short

from .advice import advised
from .markdown import percent
from .results import Results
from .stored import read_table

SHARES = (5, 10, 20, 30, 50)  # % of the texts, the least confident ones, that go to a person
WRONG = 20  # misclassified texts that a page lists
LETTERS = 200  # of a misclassified text that files and pages show
COLUMNS = {"row": str, "label": str, "predicted": str, "confidence": float, "text": str}
PAIRS = 5  # of labels that are taken for one another


def tested(results: Results, method: str) -> pd.DataFrame:
    """A row for each text that each run of a method has tested, the most confident first.

    Columns: row (the text's place in the task's rows), label and predicted (numbers), confidence.
    """
    places, logits = map(np.concatenate, zip(*results.predictions.by_run(method), strict=True))
    table = pd.DataFrame({"row": results.predictions.rows[places]})
    table["label"], table["predicted"] = results.predictions.labels[places], logits.argmax(1)
    table["confidence"] = softmax(logits.astype(float), axis=1).max(axis=1)
    return table.sort_values("confidence", ascending=False, kind="stable")


def confusion(results: Results, method: str) -> np.ndarray:
    """Test texts by true label (rows) and predicted label (columns), mean over seeds, (C, C)."""
    table, classes = tested(results, method), range(len(results.experiment["label_names"]))
    counts = confusion_matrix(table["label"], table["predicted"], labels=classes)
    return counts * (table["row"].nunique() / len(table))


def referral(results: Results, method: str) -> str:
    """Accuracy on the rest if a person checks the least confident texts, for each of `SHARES`."""
    table = tested(results, method)
    table, steps = table.assign(right=table["label"] == table["predicted"]), []
    for share in SHARES:
        kept = table[: max(1, round(len(table) * (1 - share / 100)))]
        threshold, accuracy = kept["confidence"].iloc[-1], percent(kept["right"].mean())
        steps.append(f"{share} %{_below(threshold)}: {accuracy} %")
    line = "Accuracy on the rest, if a person checks the least confident"
    return f"{line} {'; '.join(steps)}."


def _below(confidence):
    """ " (below 0.987)", to two digits of 1 - confidence and 3 to 6 decimals (predict writes 6)."""
    digits = 1 - math.floor(math.log10(max(1 - confidence, 1e-9)))
    text = f"{confidence:.{min(max(digits, 3), 6)}f}"
    return f" (below {text})" if float(text) < 1 else ""


def _shown(results):
    """The labels' names; after Arabic or Hebrew an unseen mark keeps the text's direction.

    Without it a reader sees the next name, or the numbers beside it, in the reverse order.
    """
    names = results.experiment["label_names"]
    is_leftward = [any(unicodedata.bidirectional(c) in ("R", "AL") for c in name) for name in names]
    return [name + "\u200e" * is_it for name, is_it in zip(names, is_leftward, strict=True)]


def frequent_errors(results: Results, method: str) -> list[str]:
    """Which labels are most often taken for which, in a sentence; none for a task of two labels."""
    counts, names = confusion(results, method), _shown(results)
    if len(names) == 2:
        return []
    np.fill_diagonal(counts, 0)
    most = np.argsort(-counts, axis=None, kind="stable")[:PAIRS]
    pairs = zip(*np.unravel_index(most, counts.shape), strict=True)
    words = [f"“{names[i]}” for “{names[j]}” {counts[i, j]:,.0f}" for i, j in pairs if counts[i, j]]
    return [f"Texts most often taken for another label: {'; '.join(words)}."] if words else []


def confident_errors(results: Results, method: str) -> pd.DataFrame:
    """All texts that a method gets wrong, the most confident first: they may be wrongly labelled.

    Columns as in `tested`, with the labels' names. With several seeds, a text has one row, from the
    seed that is most confident of a wrong label.
    """
    table = tested(results, method)
    table = table[table["label"] != table["predicted"]].drop_duplicates("row")
    names = np.array(results.experiment["label_names"], object)
    table = table.assign(label=names[table["label"]], predicted=names[table["predicted"]])
    return table.reset_index(drop=True)


def misclassified(results: Results) -> pd.DataFrame | None:
    """All errors of the advised method, else of the best one, with their texts.

    Without `texts` they are read from misclassified.csv; None where it is missing or another
    method's. Raises `BadInput`.
    """
    path = results.folder / "misclassified.csv"
    if results.texts is None and not path.exists():
        return None
    table = confident_errors(results, advised(results) or results.best)
    if results.texts is None:
        earlier = read_table(path, COLUMNS, "delete that file")
        sure = earlier["confidence"], table["confidence"]  # else they are another method's
        return earlier if len(earlier) == len(table) and np.allclose(*sure) else None
    texts = pd.Series(results.texts, dtype=object).iloc[table["row"]]
    words = table[["label", "predicted"]].assign(text=[short(t, LETTERS) for t in texts])
    words = words.map(plain_cell)  # a spreadsheet would run a formula
    return table.assign(row=texts.index, **words)


def label_columns(results: Results, method: str) -> dict[str, list[str]]:
    """Precision, recall, F1 and texts of each label; a label never predicted has precision 0."""
    table, names = tested(results, method), _shown(results)
    options = {"labels": range(len(names)), "zero_division": 0}
    *shares, texts = precision_recall_fscore_support(table["label"], table["predicted"], **options)
    columns = {"label": names}
    for heading, values in zip(("precision, %", "recall, %", "F1, %"), shares, strict=True):
        columns[heading] = list(map(percent, values))
    share = table["row"].nunique() / len(table)  # with several seeds, for the mean over them
    return columns | {"texts": [f"{share * count:,.0f}" for count in texts]}
