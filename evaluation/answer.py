"""The answer for one's own texts: which method, how sure that is, and how it errs.

The rule. Methods are tried from the simplest to the most costly: TF-IDF, the probe, both together,
head-only, LoRA, LoRA with TF-IDF, other methods by their trained parameters, fine-tuning. The first
is advised whose score no other method exceeds by more than one standard error of their difference,
which is paired by text: Breiman et al.'s one-standard-error rule (1984, section 3.4.3). It is the
test "no other beats it", one-sided and uncorrected, at 16 % in place of 5. At 5 % with Holm's
correction nearly nothing is significant with some hundred texts: the simplest method would be
advised even where another leads by several points. A method that is significantly worse than
another is never advised by either rule.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats
from scipy.special import softmax
from sklearn.metrics import confusion_matrix

from . import statistics
from .metrics import METRICS, PLANNABLE

if TYPE_CHECKING:
    from .results import Results

ORDER = ("tfidf", "probe", "probe+tfidf", "head", "lora", "lora+tfidf")  # then others, then full
BEATEN = stats.norm.sf(1)  # one-sided p of a lead of one standard error
ENDS = ["difference", "low", "high"]
SHARES = (0, 5, 10, 20, 30, 50)  # % of the texts, the least confident ones, that go to a person
WRONG = 20  # texts that are listed
HALF = "(labels=0.5)"  # how a method is typed that gets half of the labels
WORDS = {"different": "significant", "equivalent": "equivalent", "undecided": "not significant"}


@dataclass(frozen=True)
class Advice:
    """The method advised, and why, in words."""

    method: str
    best: str  # the one with the highest score
    sentence: str
    texts_needed: int | None = None  # to make the lead of `best` significant, where it is not


def by_simplicity(results: "Results") -> list[str]:
    """The methods that have finished, the simplest first."""
    whole = results.runs[~results.runs["method"].str.contains("labels=", regex=False)]
    sizes = whole.groupby("method", sort=False)["trainable_parameters"].mean().fillna(0)
    names = results.runs.groupby("method")["name"].first()

    def place(method):
        parts = names[method].split("+")
        rank = ORDER.index(names[method]) if names[method] in ORDER else len(ORDER)
        return ("full" in parts, rank, sizes[method])

    return sorted(sizes.index, key=place)


def advice(results: "Results") -> Advice:
    """What the rule above says of these results."""
    metric, order = METRICS[results.metric], by_simplicity(results)
    scores, table = results.predictions.scores(results.metric), results.intervals
    table = table.set_index("method")
    best = table.loc[order, results.metric].idxmax()
    for method in order:
        pairs = [(other, method) for other in order if other != method]
        leads = statistics.compare([scores], pairs, results.margin)
        beaten = leads[(leads["difference"] > 0) & (leads["p"] / 2 < BEATEN)]
        if beaten.empty:
            break
    ends = _range(metric, *table.loc[method, [results.metric, *_ends(results.metric)]])
    start, label = f"Use {results.looks[method].label}", lambda m: results.looks[m].label
    simpler = order[: order.index(best)]
    other = method if method != best else max(simpler, key=table[results.metric].get, default=None)
    if other is None:
        return Advice(method, best, f"{start}: the simplest method, {metric.label} {ends}.")
    lead = statistics.compare([scores], [(best, other)], results.margin).iloc[0]
    half, points = (lead["high"] - lead["low"]) / 2, _range(metric, *lead[ENDS], " points")
    if method == best:
        why = (
            f"the highest {metric.label}, {ends}. It leads {label(other)}, the best of the simpler"
        )
        why += f" methods, by {points}"
    else:
        why = f"{metric.label} {ends}. It is the simplest method that no other leads by more than a"
        why += f" standard error. The highest, {label(best)}, leads by {points}"
    if lead["p"] < statistics.LEVEL or lead["difference"] == 0:
        return Advice(method, best, f"{start}: {why}.")
    needed = len(results.predictions.labels) * (half / lead["difference"]) ** 2
    why += f": about {_about(needed)} tested texts would make such a lead significant"
    return Advice(method, best, f"{start}: {why}.", round(needed))


def methods(results: "Results") -> pd.DataFrame:
    """A row a method, the highest score first: scores with intervals, difference from the probe.

    `difference`, `difference_low`, `difference_high` and `verdict` (Holm over these rows) are of
    the experiment's metric, and missing without a probe. `seconds` are a run's, the frozen blocks'
    included.
    """
    table = results.intervals.set_index("method")
    probes = [m for m in table.index if m.partition("(")[0] == "probe"]
    if probes:
        pairs = [(method, probes[0]) for method in table.index if method != probes[0]]
        leads = statistics.compare(
            [results.predictions.scores(results.metric)], pairs, results.margin
        ).set_index("method_a")
        table["difference"], table["verdict"] = leads["difference"], leads["verdict"].map(WORDS)
        table["difference_low"], table["difference_high"] = leads["low"], leads["high"]
    runs = results.runs.groupby("method")
    table["trainable_parameters"] = runs["trainable_parameters"].mean()
    table["seconds"] = runs["total_seconds"].mean()
    return table.sort_values(results.metric, ascending=False, kind="stable").reset_index()


def majority(results: "Results") -> tuple[str, float]:
    """The test's most frequent label, and its share: the accuracy of always saying it."""
    counts = np.bincount(results.predictions.labels)
    names = results.experiment["label_names"]
    return names[counts.argmax()], counts.max() / counts.sum()


# ---------------------------------------------------------------------------- how it errs


def pooled(results: "Results", method: str) -> tuple[np.ndarray, np.ndarray]:
    """The places of the texts that a method's runs have tested, and the logits, of all runs."""
    places, logits = zip(*results.predictions.by_run(method), strict=True)
    return np.concatenate(places), np.concatenate(logits)


def confusion(results: "Results", method: str) -> pd.DataFrame:
    """Test texts by label (rows) and label given (columns), the mean over seeds."""
    places, logits = pooled(results, method)
    names, labels = results.experiment["label_names"], results.predictions.labels[places]
    counts = confusion_matrix(labels, logits.argmax(1), labels=range(len(names)))
    return pd.DataFrame(counts * (len(set(places)) / len(places)), names, names)


def per_label(results: "Results", method: str) -> pd.DataFrame:
    """Precision, recall, F1 and support of each label; a label never given has precision 0."""
    counts = confusion(results, method).to_numpy()
    right, given, support = counts.diagonal(), counts.sum(axis=0), counts.sum(axis=1)
    return pd.DataFrame(
        {
            "label": results.experiment["label_names"],
            "precision": right / np.maximum(given, 1e-9),
            "recall": right / np.maximum(support, 1e-9),
            "f1": 2 * right / np.maximum(given + support, 1e-9),
            "support": support.round().astype(int),
        }
    )


def referral(results: "Results", method: str, shares: Sequence[float] = SHARES) -> pd.DataFrame:
    """Accuracy on the others, where the least confident `shares` (%) of texts go to a person."""
    places, logits = pooled(results, method)
    confidence = softmax(logits.astype(float), axis=1).max(axis=1)
    right = (logits.argmax(1) == results.predictions.labels[places]).astype(float)
    right = right[np.argsort(-confidence, kind="stable")]
    kept = [max(1, round(len(right) * (1 - share / 100))) for share in shares]
    return pd.DataFrame({"share": shares, "accuracy": [right[:count].mean() for count in kept]})


def confident_errors(
    results: "Results", method: str, texts: Sequence[str] | None = None, count: int = WRONG
) -> pd.DataFrame:
    """The texts that a method gets most confidently wrong: they are often wrongly labelled.

    row (the place in the task's rows), label, predicted, confidence and, with the `texts` of all
    rows, text. Of several seeds, the one that is most confident speaks for a text.
    """
    predictions, names = results.predictions, np.array(results.experiment["label_names"], object)
    places, logits = pooled(results, method)
    table = pd.DataFrame({"place": places, "predicted": names[logits.argmax(1)]})
    table["confidence"] = softmax(logits.astype(float), axis=1).max(axis=1)
    table.insert(1, "label", names[predictions.labels[places]])
    table = table[logits.argmax(1) != predictions.labels[places]]
    table = table.sort_values("confidence", ascending=False, kind="stable")
    table = table.drop_duplicates("place").head(count).reset_index(drop=True)
    rows = table.pop("place") if predictions.rows is None else predictions.rows[table.pop("place")]
    table.insert(0, "row", rows)
    return table if texts is None else table.assign(text=[texts[row] for row in table["row"]])


def more_labels(results: "Results") -> str | None:
    """Are more labels worth it? From a method and the same with half of them; None without."""
    names = set(results.runs["method"])
    halves = [m for m in names if m.endswith(HALF) and m.removesuffix(HALF) in names]
    if not halves:
        return None
    half, metric = min(halves), METRICS[results.metric]
    whole, label = half.removesuffix(HALF), results.looks[half.removesuffix(HALF)].label
    scores = results.predictions.scores(results.metric)
    gain = statistics.compare([scores], [(whole, half)], results.margin).iloc[0]
    points = _range(metric, *gain[ENDS], " points")
    doubled = f"From half of the labels to all of them {label} gains {points}"
    if gain["low"] > 0:
        return f"{doubled}: more labels are worth it."
    if gain["high"] < results.margin:
        return f"{doubled}: more labels of this kind would add less than that margin."
    return f"{doubled}: these texts cannot tell whether more labels are worth it."


# ---------------------------------------------------------------------------- in words


def terminal(results: "Results") -> str:
    """The table, what always saying the largest label gives, the advice, and how it errs."""
    rows, advised = methods(results), advice(results)
    columns = {"method": [results.looks[method].label for method in rows["method"]]}
    for name in PLANNABLE:
        metric = METRICS[name]
        columns[f"{metric.label}, {metric.unit}"] = [
            _range(metric, *row, "") for row in rows[[name, *_ends(name)]].to_numpy()
        ]
    if "difference" in rows:
        metric = METRICS[results.metric]
        columns["− probe, points"] = [
            _range(metric, row.difference, row.difference_low, row.difference_high, "")
            + f" {row.verdict}"
            if np.isfinite(row.difference)
            else ""
            for row in rows.itertuples()
        ]
    sizes = rows["trainable_parameters"]
    columns["parameters"] = [f"{n:,.0f}" if np.isfinite(n) else "" for n in sizes]
    columns["seconds"] = [f"{s:,.0f}" if np.isfinite(s) else "" for s in rows["seconds"]]
    label, share = majority(results)
    kept = referral(results, advised.method)
    steps = [f"{row.share:g} %: {100 * row.accuracy:.1f}" for row in kept.itertuples()]
    of_labels = per_label(results, advised.method).set_index("label")
    of_labels[["precision", "recall", "f1"]] *= 100
    more = more_labels(results)
    return "\n".join(
        [
            pd.DataFrame(columns).to_string(index=False),
            f"In brackets: 95 % intervals, of {results.covers}.",
            f"Always saying {label!r} has {100 * share:.1f} %.",
            "",
            advised.sentence,
            *[more] * bool(more),
            "",
            of_labels.to_string(float_format="{:.1f}".format),
            f"Least confident texts to a person, accuracy on the others: {', '.join(steps)} %.",
        ]
    )


def _ends(name):
    return [f"{name}_low", f"{name}_high"]


def _range(metric, value, low, high, unit=None):
    """Such as "75.9 % (72.7 to 79.1)"."""
    value, low, high = (metric.form.format(metric.scale * x) for x in (value, low, high))
    return f"{value}{f' {metric.unit}' if unit is None else unit} ({low} to {high})"


def _about(number):
    """With one digit that counts: 3,000."""
    size = 10 ** int(np.floor(np.log10(number)))
    return f"{round(number / size) * size:,}"
