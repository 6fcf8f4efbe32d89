"""One table of metrics: whatever shows, stores or compares scores loops over it.

    METRICS = {name: Metric(label, compute, ...)}      a new metric is one row

A metric that differences are tested on has a value for each text as well, whose mean is the
metric. For accuracy they are 0 and 1. Macro-F1 is a mean of ratios, F_c = sum a_ic / sum b_ic,
with a_ic = 2 [text i is c and called c] and b_ic = [i is c] + [i is called c]. Its value for text i
is macro-F1 + mean over c of (a_ic - F_c b_ic) / mean_i b_ic: the last term, text i's influence, has
mean 0, and its variance over n is that of macro-F1 (the delta method; Hampel 1974).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax, softmax

BINS = 15  # of confidence, for the calibration error


@dataclass(frozen=True)
class Metric:
    """How a metric is called, computed and written."""

    label: str  # in running text and on axes
    compute: Callable[[np.ndarray, np.ndarray], float]  # of labels (n,) and logits (n, C)
    unit: str  # of `scale` times the value
    scale: float = 1.0
    form: str = "{:.3f}"  # of the scaled value
    values: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None  # (n,), mean: the metric


def accuracy_of_texts(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """(n,) 1 where the label with the highest logit is right, else 0."""
    return (logits.argmax(1) == labels).astype(float)


def f1_of_labels(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """(C,) the F1 of each label; 0 for one that no text has and none is given."""
    right = np.bincount(labels[labels == predicted], minlength=classes)
    counts = np.bincount(labels, minlength=classes) + np.bincount(predicted, minlength=classes)
    return 2 * right / np.maximum(counts, 1)


def macro_f1_of_texts(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """(n,) values whose mean is the macro-F1 over all C labels, and their spread its error.

    A label that no text has and none is given has an F1 of 0, as in scikit-learn.
    """
    predicted, classes = logits.argmax(1), logits.shape[1]
    right = predicted == labels
    counts = np.bincount(labels, minlength=classes) + np.bincount(predicted, minlength=classes)
    weights = len(labels) / np.maximum(counts, 1)  # 1 / mean of b_ic
    f1 = f1_of_labels(labels, predicted, classes)
    influence = 2 * right * weights[labels] - (f1 * weights)[labels] - (f1 * weights)[predicted]
    return f1.mean() + influence / classes


def loss(labels: np.ndarray, logits: np.ndarray) -> float:
    """The mean of -log p(label), in nats."""
    return -log_softmax(logits.astype(float), axis=1)[np.arange(len(labels)), labels].mean()


def calibration_error(labels: np.ndarray, logits: np.ndarray) -> float:
    """Expected calibration error (Guo et al. 2017): |accuracy - confidence|, over 15 equal bins.

    Each bin weighs as many texts as it holds.
    """
    probabilities = softmax(logits.astype(float), axis=1)
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return abs(np.bincount(bins, right - confidence)).sum() / len(labels)


PERCENT = {"unit": "%", "scale": 100.0, "form": "{:.1f}"}
METRICS = {
    "accuracy": Metric(
        label="accuracy",
        compute=lambda labels, logits: accuracy_of_texts(labels, logits).mean(),
        values=accuracy_of_texts,
        **PERCENT,
    ),
    "macro_f1": Metric(
        label="macro-F1",
        compute=lambda labels, logits: macro_f1_of_texts(labels, logits).mean(),
        values=macro_f1_of_texts,
        **PERCENT,
    ),
    "loss": Metric(label="loss", compute=loss, unit="nats per text"),
    "calibration_error": Metric(label="calibration error", compute=calibration_error, **PERCENT),
}
PLANNABLE = [name for name, metric in METRICS.items() if metric.values]  # of `METRIC`


def scores(labels: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    """Every metric of labels (n,) and logits (n, C)."""
    return {name: float(metric.compute(labels, logits)) for name, metric in METRICS.items()}


def is_collapsed(labels: np.ndarray, logits: np.ndarray) -> bool:
    """Whether every text is given one label, although they have several."""
    return bool((logits.argmax(1) == logits[0].argmax()).all() and (labels != labels[0]).any())
