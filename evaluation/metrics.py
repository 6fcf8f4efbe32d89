"""One table of metrics: all code that shows, stores or compares scores loops over it.

    METRICS = {name: Metric(label, compute, ...)}      a new metric is one row

A metric on which differences are tested also has a value for each text; the mean of these values is
the metric. For accuracy they are 0 and 1. Macro-F1 is a mean of ratios, F_c = sum a_ic / sum b_ic,
with a_ic = 2 [text i is c and called c] and b_ic = [i is c] + [i is called c]. Its value for text i
is macro-F1 + mean over c of (a_ic - F_c b_ic) / mean_i b_ic: the last term, text i's influence, has
mean 0, and its variance / n is the variance of macro-F1 (the delta method; Hampel 1974). This
variance ignores unseen texts: where a label has three texts, all of them right, one more text that
is missed would move macro-F1 much. `unseen` says by how much.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax, softmax

from .markdown import number

BINS = 15  # of confidence, for the calibration error


@dataclass(frozen=True)
class Metric:
    """How a metric is called, computed and written."""

    label: str  # in running text and on axes
    # From labels (n,) and logits (n, C): the texts' values (n,), whose mean is the metric, or it.
    compute: Callable[[np.ndarray, np.ndarray], np.ndarray | float]
    unit: str  # of `scale` times the value
    scale: float = 1.0
    form: str = "{:.3f}"  # of the scaled value
    is_plannable: bool = False  # comparisons test its differences, which are from -1 to 1
    # From labels and logits: by how much one more text of each label moves the metric (2, C), first
    # a right text, then a missed one; None where no single text moves it much.
    unseen: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None

    @property
    def heading(self) -> str:
        """The heading of a table's column."""
        return f"{self.label}, {self.unit}"

    def text(self, value: float) -> str:
        """A value as text, without its unit."""
        return number(self.scale * value, self.form)


def accuracy_of_texts(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """(n,) 1 where the label with the highest logit is right, else 0."""
    return (logits.argmax(1) == labels).astype(float)


def macro_f1_of_texts(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Values (n,) whose mean is the macro-F1 over all C labels, and whose spread gives its error.

    A label that no text has, and that is never predicted, has an F1 of 0, as in scikit-learn with
    all `labels`.
    """
    predicted, classes = logits.argmax(1), logits.shape[1]
    right = predicted == labels
    counts = np.bincount(labels, minlength=classes) + np.bincount(predicted, minlength=classes)
    counts = np.maximum(counts, 1)
    f1 = 2 * np.bincount(labels[right], minlength=classes) / counts
    weights = len(labels) / counts  # 1 / mean of b_ic
    influence = 2 * right * weights[labels] - (f1 * weights)[labels] - (f1 * weights)[predicted]
    return f1.mean() + influence / classes


def unseen_of_macro_f1(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """How much one more text of each label raises macro-F1 if right, lowers it if missed, (2, C).

    A quarter of a right text and half a mistake are added first: no label then has an F1 of 0 or 1.
    The values are 0 for a label that no text has: the test says nothing about it.
    """
    predicted, classes = logits.argmax(1), logits.shape[1]
    right = np.bincount(labels[predicted == labels], minlength=classes) + 0.25
    texts = np.bincount(labels, minlength=classes)
    counts = texts + np.bincount(predicted, minlength=classes)
    f1 = 2 * right / (counts + 1)
    steps = np.array([2 - 2 * f1, f1]) / (counts + 0.5)
    return (texts > 0) * np.minimum(steps, [1 - f1, f1]) / classes  # an F1 is from 0 to 1


def loss_of_texts(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """(n,) -log p(label), in nats."""
    return -log_softmax(logits.astype(float), axis=1)[np.arange(len(labels)), labels]


def calibration_error(labels: np.ndarray, logits: np.ndarray) -> float:
    """Expected calibration error (Guo et al. 2017): |accuracy - confidence|, over 15 equal bins.

    Each bin is weighted by its number of texts.
    """
    probabilities = softmax(logits.astype(float), axis=1)
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return abs(np.bincount(bins, right - confidence)).sum() / len(labels)


PERCENT = {"unit": "%", "scale": 100.0, "form": "{:.1f}"}
METRICS = {
    "accuracy": Metric("accuracy", accuracy_of_texts, is_plannable=True, **PERCENT),
    "macro_f1": Metric(
        "macro-F1", macro_f1_of_texts, is_plannable=True, unseen=unseen_of_macro_f1, **PERCENT
    ),
    "loss": Metric("loss", loss_of_texts, unit="nats per text"),
    "calibration_error": Metric("calibration error", calibration_error, **PERCENT),
}
PLANNABLE = [name for name, metric in METRICS.items() if metric.is_plannable]  # choices of METRIC


def scores(labels: np.ndarray, logits: np.ndarray, before: str = "") -> dict[str, float]:
    """Every metric of labels (n,) and logits (n, C), by name; `before` is a prefix: "test_loss"."""
    values = {name: np.mean(each.compute(labels, logits)) for name, each in METRICS.items()}
    return {f"{before}{name}": float(value) for name, value in values.items()}


def is_collapsed(labels: np.ndarray, logits: np.ndarray) -> bool:
    """Whether all texts are given one label, although their true labels differ."""
    return bool((logits.argmax(1) == logits[0].argmax()).all() and (labels != labels[0]).any())
