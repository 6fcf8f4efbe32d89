"""One table of metrics: whatever shows, stores or compares scores loops over it.

    METRICS = {name: Metric(label, compute, ...)}      a new metric is one row

A metric that differences are tested on has a value for each text as well, whose mean is the
metric. For accuracy they are 0 and 1. Macro-F1 is a mean of ratios, F_c = sum a_ic / sum b_ic,
with a_ic = 2 [text i is c and called c] and b_ic = [i is c] + [i is called c]. Its value for text i
is macro-F1 + mean over c of (a_ic - F_c b_ic) / mean_i b_ic: the last term, text i's influence, has
mean 0, and its variance over n is that of macro-F1 (the delta method; Hampel 1974). That knows
nothing of what was not seen: of a label with three texts, all of them right, one more that is
missed would move macro-F1 much. `unseen` is by how much.
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
    # Of labels (n,) and logits (n, C): (n,) a value of each text, whose mean is the metric, or it.
    compute: Callable[[np.ndarray, np.ndarray], np.ndarray | float]
    unit: str  # of `scale` times the value
    scale: float = 1.0
    form: str = "{:.3f}"  # of the scaled value
    is_plannable: bool = False  # differences of its texts' values, from -1 to 1, are tested
    # Of the same: (2, C) by how much one more text of a label moves it, a right one, a missed one.
    unseen: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None  # None: of no label much

    @property
    def heading(self) -> str:
        """Of a table's column."""
        return f"{self.label}, {self.unit}"

    def text(self, value: float) -> str:
        """A value, without its unit."""
        return number(self.scale * value, self.form)


def accuracy_of_texts(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """(n,) 1 where the label with the highest logit is right, else 0."""
    return (logits.argmax(1) == labels).astype(float)


def macro_f1_of_texts(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """(n,) values whose mean is the macro-F1 over all C labels, and their spread its error.

    A label that no text has and none is given has an F1 of 0, as in scikit-learn with all `labels`.
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
    """(2, C) by how much one more text of each label raises macro-F1, if right, or lowers it.

    A quarter of a right and of a missed text are added first: no label then has an F1 of 0 or 1.
    None of a label that no text has: the test cannot say how it is met.
    """
    predicted, classes = logits.argmax(1), logits.shape[1]
    right = np.bincount(labels[predicted == labels], minlength=classes) + 0.25
    texts = np.bincount(labels, minlength=classes)
    counts = texts + np.bincount(predicted, minlength=classes)
    f1 = 2 * right / (counts + 1)
    steps = np.array([2 - 2 * f1, f1]) / (counts + 0.5)
    return (texts > 0) * np.minimum(steps, [1 - f1, f1]) / classes  # an F1 ends at 0 and at 1


def loss_of_texts(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """(n,) -log p(label), in nats."""
    return -log_softmax(logits.astype(float), axis=1)[np.arange(len(labels)), labels]


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
    "accuracy": Metric("accuracy", accuracy_of_texts, is_plannable=True, **PERCENT),
    "macro_f1": Metric(
        "macro-F1", macro_f1_of_texts, is_plannable=True, unseen=unseen_of_macro_f1, **PERCENT
    ),
    "loss": Metric("loss", loss_of_texts, unit="nats per text"),
    "calibration_error": Metric("calibration error", calibration_error, **PERCENT),
}
PLANNABLE = [name for name, metric in METRICS.items() if metric.is_plannable]  # of `METRIC`


def scores(labels: np.ndarray, logits: np.ndarray, before: str = "") -> dict[str, float]:
    """Every metric of labels (n,) and logits (n, C), by its name after `before`: "test_loss"."""
    values = {name: np.mean(each.compute(labels, logits)) for name, each in METRICS.items()}
    return {f"{before}{name}": float(value) for name, value in values.items()}


def is_collapsed(labels: np.ndarray, logits: np.ndarray) -> bool:
    """Whether every text is given one label, although they have several."""
    return bool((logits.argmax(1) == logits[0].argmax()).all() and (labels != labels[0]).any())
