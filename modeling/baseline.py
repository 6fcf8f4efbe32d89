"""The baselines, which are fitted and not trained: logistic regression on words, or on features.

    tfidf    text -> words and pairs of neighbouring words (at least 2 texts have it)
                  -> (1 + log count) * log inverse share of texts, rows of length 1       (n, V)
    probe    the frozen encoder's pooled features, each number standardised              (n, R d)
         -> logistic regression, L2 penalty 1 / C:   log softmax(W x + b)        W (C, V or R d)

Both get all n labels, and choose the penalty by cross-validation within them: the lowest mean loss
over five folds, stratified by label; no group (a film) is in two folds. Where a label has fewer
texts or groups there are fewer folds; where it has a single one, the penalty is the middle value.
Only the regression is fitted anew in each fold: what comes before it sees no labels. TF-IDF reads
whole texts: nothing is truncated.

A classifier is its W and b, so it is saved as tensors. A label of the task that no training text
has gets the logit -50, where the likeliest label has 0 or more.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy.special import log_softmax
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from torch import Tensor

from boundary import BadInput

TFIDF, PROBE = "tfidf", "probe"
INVERSE_PENALTIES = {  # C: features that are standardised, and many, take small ones
    TFIDF: (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0),
    PROBE: (1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 1e-1, 1.0),
}
FOLDS = 5
WORDS = {"ngram_range": (1, 2), "sublinear_tf": True}
UNSEEN = -50.0  # the logit of a label without a training text


@dataclass(frozen=True, eq=False)
class TfidfClassifier:
    """Logistic regression on words and pairs of words."""

    words: TfidfVectorizer
    weight: np.ndarray  # (C, V)
    bias: np.ndarray  # (C,)
    C: float | None = None  # the inverse penalty; None: loaded, not fitted
    validation_loss: float | None = None  # cross-validated, at this C; None without folds

    def log_probabilities(self, texts: Sequence[str]) -> Tensor:
        """Of n texts: (n, C) in float32."""
        logits = np.zeros((0, len(self.bias)))
        if len(texts):
            logits = self.words.transform(texts) @ self.weight.T + self.bias
        return torch.from_numpy(log_softmax(logits, 1)).float()

    def to_tensors(self) -> tuple[dict[str, Tensor], list[str]]:
        """All that `from_tensors` needs: tensors, and the V words and pairs of words."""
        arrays = {"idf": self.words.idf_, "weight": self.weight, "bias": self.bias}
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return tensors, self.words.get_feature_names_out().tolist()

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], vocabulary: list[str]) -> "TfidfClassifier":
        """The classifier that `to_tensors` gave. Raises `BadInput` for other tensors."""
        arrays = _checked(tensors, ("idf", "weight", "bias"), len(vocabulary))
        words = TfidfVectorizer(**WORDS, vocabulary=vocabulary)
        words.idf_ = arrays["idf"]
        return cls(words, arrays["weight"], arrays["bias"])


@dataclass(frozen=True, eq=False)
class ProbeClassifier:
    """Logistic regression on a frozen encoder's features, as one linear map of them."""

    weight: np.ndarray  # (C, R d)
    bias: np.ndarray  # (C,)
    C: float | None = None
    validation_loss: float | None = None
    pooling: str | None = None  # of its features

    def log_probabilities(self, features: np.ndarray) -> Tensor:
        """Of the features of n texts, (n, R d) or (n, R, d): (n, C) in float32."""
        features = features.reshape(len(features), self.weight.shape[1])
        parts = np.array_split(features, 1 + len(features) // 1000)  # they are wide
        logits = np.concatenate([part.astype(np.float64) @ self.weight.T for part in parts])
        return torch.from_numpy(log_softmax(logits + self.bias, 1)).float()

    def to_tensors(self) -> tuple[dict[str, Tensor], None]:
        """W and b; no words."""
        return {"weight": torch.from_numpy(self.weight), "bias": torch.from_numpy(self.bias)}, None

    @classmethod
    def from_tensors(
        cls, tensors: dict[str, Tensor], pooling: str | None = None
    ) -> "ProbeClassifier":
        """The classifier that `to_tensors` gave. Raises `BadInput` for other tensors."""
        return cls(**_checked(tensors, ("weight", "bias")), pooling=pooling)


def fit_tfidf(
    texts: Sequence[str],
    labels: Sequence[int],
    groups: Sequence[str] | None = None,
    classes: int | None = None,
) -> TfidfClassifier:
    """Fit to n texts; `classes` C where a label of the task may have no text here.

    Raises `BadInput` where no word or pair of words occurs in two texts.
    """
    words = TfidfVectorizer(**WORDS, min_df=2)
    try:
        features = words.fit_transform(texts)
    except ValueError as error:  # scikit-learn's "after pruning, no terms remain"
        raise BadInput(
            f"no word or pair of words occurs in two of the {len(texts)} training texts, which "
            "tfidf needs; leave tfidf out of METHODS, or give it more labels"
        ) from error
    penalties = INVERSE_PENALTIES[TFIDF]
    with threadpool_limits(1, "blas"):
        fitted = _fit_regression(penalties, features, labels, groups, classes)
    return TfidfClassifier(words, *fitted)


def fit_probe(
    features: np.ndarray,
    labels: Sequence[int],
    groups: Sequence[str] | None = None,
    classes: int | None = None,
    pooling: str | None = None,
) -> ProbeClassifier:
    """Fit to a frozen encoder's features of n texts, (n, R d) or (n, R, d); else as `fit_tfidf`.

    The regression's logits are W z + b, of z = (x - mean) / scale. They are those of the weights
    W / scale and the bias b - (W / scale) mean on x itself.
    """
    # OpenBLAS's threads spin: beside other work they take minutes for seconds of computation.
    with threadpool_limits(1, "blas"):
        scaler, z, back = _standardised(features)
        weight, bias, *chosen = _fit_regression(
            INVERSE_PENALTIES[PROBE], z, labels, groups, classes
        )
        weight = back(weight) / scaler.scale_
        return ProbeClassifier(weight, bias - weight @ scaler.mean_, *chosen, pooling)


def choose_pooling(
    layers: np.ndarray, labels: Sequence[int], groups: Sequence[str] | None = None
) -> str:
    """ "mean" or "layers": the pooling whose probe has the lower cross-validated loss.

    `layers` (n, L + 1, d) are the means after all layers. "layers" where no folds can be made.
    """
    losses, labels = {}, np.asarray(labels)
    for pooling, features in (("mean", layers[:, -1]), ("layers", layers)):
        with threadpool_limits(1, "blas"):
            z = _standardised(features)[1]
            losses[pooling] = _choose_penalty(INVERSE_PENALTIES[PROBE], z, labels, groups)[1]
    return "layers" if losses["mean"] is None else min(losses, key=losses.get)


# ---------------------------------------------------------------------------- inside


def _standardised(features):
    """The scaler; z (n, R d), or rotated (n, n); the map of weights (C, n) back to (C, R d).

    Where the numbers of a text are many more than the n texts, z is rotated onto the directions in
    which these lie: with z z^T = U S U^T it becomes U S^(1/2), and z^T U S^(-1/2) are the
    directions. An L2 penalty is the same in any rotation, so the solution is the same. Elsewhere a
    rotation takes longer than it saves.
    """
    scaler, features = StandardScaler(), features.reshape(len(features), -1)
    z = scaler.fit_transform(features)
    if z.shape[1] <= 2 * len(z):
        return scaler, z, lambda weight: weight
    products = z.astype(np.float64)
    squares, U = np.linalg.eigh(products @ products.T)  # (n,), (n, n)
    is_direction = squares > 1e-12 * squares[-1]  # one less than n: the mean is 0
    root, U = np.sqrt(squares[is_direction]), U[:, is_direction]
    return scaler, (U * root).astype(z.dtype), lambda weight: weight @ (U / root).T @ z


def _fit_regression(penalties, features, labels, groups, classes):
    """W (C, V) and b (C,) of logistic regression on all texts, the chosen penalty and its loss."""
    labels = np.asarray(labels)
    C, loss = _choose_penalty(penalties, features, labels, groups)
    classes, seen = classes or 1 + labels.max(), np.unique(labels)
    weight, bias = np.zeros((classes, features.shape[1])), np.full(classes, UNSEEN)
    bias[seen] = 0.0
    if len(seen) > 1:
        fitted = LogisticRegression(C=C, max_iter=1000).fit(features, labels)
        rows = seen[-len(fitted.coef_) :]  # of two labels the second, where the first one's are 0
        weight[rows], bias[rows] = fitted.coef_, fitted.intercept_
    return weight, bias, C, loss


def _choose_penalty(penalties, features, labels, groups):
    """The C with the lowest mean loss over the folds, and that loss.

    C rises, and each fold starts from its last solution; the search ends where the loss has risen
    twice. The middle C, and None, where there are no folds.
    """
    losses, folds = [], _folds(labels, groups)
    classifiers = [LogisticRegression(max_iter=1000, warm_start=True) for _ in folds]
    for C in penalties if folds else ():
        of_folds = []
        for classifier, (rest, held) in zip(classifiers, folds, strict=True):
            classifier.set_params(C=C).fit(features[rest], labels[rest])
            of_folds.append(_loss(classifier, features[held], labels[held]))
        losses.append(float(np.mean(of_folds)))
        if len(losses) > 2 and losses[-1] > losses[-2] > losses[-3]:
            break
    if not losses:
        return penalties[len(penalties) // 2], None
    return penalties[int(np.argmin(losses))], min(losses)


def _folds(labels, groups):
    """Pairs of positions, to fit and to evaluate; none where a label has one text or group."""
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    units = pd.Series(range(len(labels)) if groups is None else groups)  # what is never divided
    of_labels = units.groupby(labels).nunique()
    count = min(FOLDS, of_labels.min())
    if count < 2 or len(of_labels) < 2:
        return []
    pairs = kind(count, shuffle=True, random_state=0).split(labels, labels, groups)
    return [(rest, held) for rest, held in pairs if len(set(labels[rest])) == len(of_labels)]


def _loss(classifier, features, labels):
    """The mean negative log-probability of the labels."""
    logits = np.asarray(classifier.decision_function(features), np.float64)
    if logits.ndim == 1:  # of two labels, the second one's
        logits = np.stack([np.zeros_like(logits), logits], 1)
    columns = np.searchsorted(classifier.classes_, labels)
    return -log_softmax(logits, 1)[range(len(labels)), columns].mean()


def _checked(tensors, names, columns=None):
    """The named tensors as float64 arrays. Raises `BadInput` where they fit no classifier."""
    if tensors.keys() != set(names):
        raise BadInput(f"the tensors are {sorted(tensors)}; expected {sorted(names)}")
    arrays = {name: tensor.double().numpy() for name, tensor in tensors.items()}
    weight, bias = arrays["weight"], arrays["bias"]
    shapes = {name: array.shape for name, array in arrays.items()}
    expected = {"weight": (len(bias), columns or weight.shape[-1]), "bias": (len(bias),)}
    if "idf" in names:
        expected["idf"] = (columns,)
    if shapes != {name: expected[name] for name in names}:
        raise BadInput(f"the tensors have the shapes {shapes}; expected {expected}")
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise BadInput("the tensors have values that are not finite")
    return arrays
