"""The advice for one's own texts: which method, and how sure that is.

The rule advises the method with the highest score; of equal scores, the simplest method. It advises
none where that method is not shown to beat `chance`. For users who prefer a simple method,
`Advice.simplest` is the simplest one that no other method leads by more than one standard error of
their difference, paired by text: after Breiman et al. (1984, section 3.4.3).
Methods go from the simplest to the most costly: TF-IDF, the probe, both together,
head-only, LoRA, LoRA with TF-IDF, other methods by their trained parameters, fine-tuning.
docs/your-own.md says how much accuracy either choice costs.
"""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from . import statistics
from .markdown import percent, with_interval
from .metrics import METRICS
from .results import Results
from .style import without

ORDER = ("tfidf", "probe", "probe+tfidf", "head", "lora", "lora+tfidf")  # then others, then full
BEATEN = stats.norm.sf(1)  # one-sided p of a lead of one standard error
LEAST = 0.0005  # a lead that is shown as 0.1 points
POWER = 0.8  # four of five experiments


class Advice(NamedTuple):
    """The advised method, the simplest method by the one-standard-error rule, and the reasons."""

    method: str
    simplest: str
    sentence: str
    is_worthwhile: bool  # shown to beat chance


def compared(results: Results) -> list[str]:
    """The methods that are compared: those with all labels and, with folds, the same folds tested.

    These are the most folds that a method with all labels has finished: a lead on other texts may
    be chance.
    lora(labels=0.5) is compared only where no method has all labels.
    """
    runs = complete(results)
    return [method for method in runs if "labels=" not in method] or runs


def complete(results: Results) -> list[str]:
    """The methods that have finished the same folds as the compared ones; without folds, all."""
    runs = results.predictions.logits
    methods = [method for method in runs if "labels=" not in method] or list(runs)
    tested = set(max((runs[method] for method in methods), key=len))
    return [m for m in runs if set(runs[m]) == tested or not results.is_folds]


def left_out(results: Results) -> list[str]:
    """The methods that were asked for and are not `complete`: interrupted, failed or not begun."""
    asked = [*results.predictions.logits, *results.experiment["constants"].get("methods", ())]
    whole = complete(results)
    return [method for method in dict.fromkeys(asked) if method not in whole]


def by_simplicity(results: Results) -> list[str]:
    """The methods that are compared, the simplest first."""
    runs = results.runs.fillna({"trainable_parameters": 0}).drop_duplicates("method")
    runs = runs.set_index("method")[["name", "trainable_parameters"]]

    def place(method):
        name, parameters = runs.loc[method]
        rank = ORDER.index(name) if name in ORDER else len(ORDER)
        return "full" in name.split("+"), rank, parameters

    return sorted(compared(results), key=place)


def advised(results: Results) -> str | None:
    """The advised method: for one's own texts, the preset "own" or folds; None elsewhere."""
    constants, is_own = results.experiment["constants"], results.experiment["data"]["is_own"]
    is_advised = is_own or results.is_folds or constants.get("preset") == "own"
    return advise(results).method if is_advised else None


def advise(results: Results) -> Advice:
    """The advice that the rule above gives for these results."""
    order, name = by_simplicity(results), METRICS[results.metric].label
    rows = results.intervals.set_index("method").loc[order]
    values = rows[results.metric]
    method = values.idxmax()
    alternative = simplest(order, results.pairs[results.pairs["p"] / 2 < BEATEN])
    rival, kind = alternative, "the simplest method within a standard error"
    if rival == method:
        rival = max(order[: order.index(method)], key=values.get, default=None)
        kind = "the best of the simpler methods"
    label, why = results.looks[method].label, f"the highest {name}, {score(results, method)}"
    alone = ", and the simplest method" if len(order) > 1 else "; no other method is compared"
    why += _lead(results, method, rival, kind) if rival else alone
    guess, share = chance(results)
    if rows.loc[method, [results.metric, f"{results.metric}_low"]].min() <= share:  # or no interval
        why += f". It is not shown to beat {guess}, which has {percent(share)} %"
        why += "; more labels may change that" * bool(share < 1 and not more_labels(results))
        is_better = rows.loc[method, "macro_f1_low"] > chance(results, "macro_f1")[1]
        if results.metric == "accuracy" and is_better:
            why += ". Its macro-F1, where each label counts alike, beats guessing: see --metric"
            why += " macro_f1"
        return Advice(method, alternative, f"Use none yet. The best is {label}: {why}.", False)
    use = "Of the finished methods, use" if left_out(results) else "Use"
    return Advice(method, alternative, f"{use} {label}: {why}.", True)


def _lead(results, method, rival, kind):
    """How far a method leads its rival, and how many texts would make the lead significant."""
    lead = _difference(results, method, rival)
    if lead is None:
        return ""
    label, points = results.looks[rival].label, _points(lead)
    if lead["difference"] <= LEAST:
        return f". In the runs that both have, its lead over {label} is {points}"
    words = f". It leads {label}, {kind}, by {points}"
    runs = results.scores[results.metric].values
    has_seeds = max(len(runs[method]), len(runs[rival])) > 1
    if has_seeds or lead["p"] < statistics.LEVEL:
        return words
    needed = texts_needed(results, (method, rival), lead["difference"])
    if needed <= np.isfinite(runs[method][0]).sum():
        return words
    texts = f"about {needed:,.0f} tested texts"
    more = f"{texts} would make it, by itself, significant in four of five experiments"
    return f"{words}: if it is that large, {more}"


def texts_needed(results: Results, pair: tuple[str, str], lead: float) -> int:
    """How many tested texts make a true `lead` significant as often as `POWER`, to one digit.

    Significant by itself: Holm's correction for other pairs takes more. The standard error falls
    with the root of the number of texts. Its part for unseen texts of rare labels is left out: a
    larger test has such texts.
    """
    scores = results.scores[results.metric]._replace(unseen={})
    row = statistics.compare([scores], [pair]).iloc[0]
    half = (row["high"] - row["low"]) / 2
    half *= 1 - stats.norm.ppf(POWER) / stats.norm.ppf(statistics.LEVEL / 2)
    needed = np.isfinite(scores.values[pair[0]][0]).sum() * (half / lead) ** 2
    digit = 10 ** math.floor(math.log10(needed))
    return digit * math.ceil(needed / digit)


def simplest(order: list[str], leads: pd.DataFrame) -> str:
    """The first method of `order` that no other method leads; `leads` are rows of comparisons."""
    leads = leads[leads[["method_a", "method_b"]].isin(order).all(axis=1)]
    beaten = set(leads["method_b"].where(leads["difference"] > 0, leads["method_a"]))
    return next((method for method in order if method not in beaten), order[-1])


def _difference(results, a, b):
    """The difference of two methods, as a row of `Results.compare`; None where there is no row."""
    rows = results.compare([(a, b)])
    return None if rows.empty else rows.iloc[0]


def _points(difference):
    return with_interval(*difference[["difference", "low", "high"]], " points")


def score(results: Results, method: str) -> str:
    """A method's score with its interval, such as "75.9 % (72.7 to 79.1)"."""
    row, name = results.intervals.set_index("method").loc[method], results.metric
    return with_interval(*row[[name, f"{name}_low", f"{name}_high"]], " %")


def chance(results: Results, metric: str | None = None) -> tuple[str, float]:
    """How to answer without reading a text, and its score in the experiment's metric, or another.

    Accuracy: always say the test's most frequent label. Macro-F1, which any spread of answers
    raises: guess labels as often as they occur. Each label's F1 is then its share of the texts, and
    their mean 1 / C.
    """
    names, labels = results.experiment["label_names"], results.predictions.labels
    if (metric := metric or results.metric) == "macro_f1":
        return "guessing labels as often as they occur", 1 / len(names)
    largest = np.bincount(labels).argmax()
    logits = np.broadcast_to(np.eye(1, len(names), largest), (len(labels), len(names)))
    return f"always saying “{names[largest]}”", METRICS[metric].compute(labels, logits).mean()


def more_labels(results: Results) -> list[str]:
    """Are more labels worth it? A sentence for each method that also ran on part of the labels."""
    sentences, finished = [], complete(results)
    for part in sorted(method for method in finished if "labels=" in method):
        whole = without("labels", part)
        gain = _difference(results, whole, part) if whole in finished else None
        if gain is None:
            continue
        verdict = "these texts cannot tell whether more labels are worth it"
        if gain["high"] < results.margin:
            verdict = f"more labels of this kind would add less than {results.margin_words}"
        elif gain["low"] > 0:
            verdict = "more labels are worth it"
        sentences.append(
            f"{results.looks[part].label} reaches {score(results, part)}; all labels change that "
            f"by {_points(gain)}: {verdict}."
        )
    return sentences
