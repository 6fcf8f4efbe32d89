"""The baselines, which are fitted and not trained: logistic regression on words, or on features.

    tfidf    text -> words and pairs of neighbouring words (each in at least 2 texts)
                  -> (1 + log count) * (1 + log((1 + n) / (1 + texts that have it))),
                     rows of length 1                                                    (n, V)
             Chinese, Japanese and Thai have no spaces: there each letter counts as a word
    probe    the frozen encoder's pooled features, each number standardised              (n, R d)
         -> logistic regression, L2 penalty 1 / c:   log softmax(W x + b)        W (C, V or R d)

Both get all n labels; the penalty is chosen by cross-validation within them (regression.py). TF-IDF
reads whole texts: nothing is truncated. A classifier is its W and b, so it is saved as tensors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import log_softmax
from sklearn.feature_extraction.text import TfidfVectorizer
from threadpoolctl import threadpool_limits
from torch import Tensor

from boundary import BadInput

from .regression import choose_penalty, fit_regression, standardise

TFIDF, PROBE = "tfidf", "probe"
INVERSE_PENALTIES = {  # c; many standardised features need small values
    TFIDF: (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0),
    PROBE: (1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 1e-1, 1.0),
}
# Chinese, Japanese, Thai, Lao, Tibetan, Burmese, Khmer, most emoji: no space ends a word, so that
# each letter counts as one.
LETTERS = r"\u0e00-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uff66-\uff9f"
LETTERS += r"\u3005-\u3007\U0001f000-\U0003ffff"
# Accents and vowels with a place of their own in Unicode, which end no word: Arabic, Hebrew, Indic.
MARKS = r"\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0670\u0900-\u0963\u0966-\u0dff"
WORD = rf"[{LETTERS}]|(?:[^\W{LETTERS}]|[{MARKS}]){{2,}}"  # else two letters or more
VECTORIZER = {"ngram_range": (1, 2), "sublinear_tf": True, "token_pattern": WORD}


@dataclass(frozen=True, eq=False)
class TfidfClassifier:
    """Logistic regression on words and pairs of words."""

    words: TfidfVectorizer
    weight: np.ndarray  # (C, V)
    bias: np.ndarray  # (C,)
    validation_loss: float | None = None  # cross-validated; None: without folds, or loaded

    def log_probabilities(self, texts: Sequence[str]) -> Tensor:
        """Log-probabilities of n texts, (n, C) in float32."""
        logits = np.zeros((0, len(self.bias)))
        if len(texts):
            logits = self.words.transform(texts) @ self.weight.T + self.bias
        return torch.from_numpy(log_softmax(logits, 1)).float()


@dataclass(frozen=True, eq=False)
class ProbeClassifier:
    """Logistic regression on a frozen encoder's features, as one linear map of them."""

    weight: np.ndarray  # (C, R d)
    bias: np.ndarray  # (C,)
    validation_loss: float | None = None

    def log_probabilities(self, features: np.ndarray) -> Tensor:
        """Log-probabilities (n, C) in float32, from features (n, R d) or (n, R, d) of n texts."""
        features = features.reshape(len(features), self.weight.shape[1])
        parts = np.array_split(features, 1 + len(features) // 1000)  # features are wide
        logits = np.concatenate([part.astype(np.float64) @ self.weight.T for part in parts])
        return torch.from_numpy(log_softmax(logits + self.bias, 1)).float()


def fit_tfidf(
    texts: Sequence[str],
    labels: Sequence[int],
    groups: Sequence[str] | None = None,
    classes: int | None = None,
) -> TfidfClassifier:
    """Fit to n texts; give `classes` C where a label of the task may have no text here.

    Raises `BadInput` where no word or pair of words occurs in two texts.
    """
    words = TfidfVectorizer(**VECTORIZER, min_df=2)
    try:
        features = words.fit_transform(texts)
    except ValueError as error:  # scikit-learn's "after pruning, no terms remain"
        raise BadInput(
            f"no word or pair of words occurs in two of the {len(texts)} training texts, which "
            "tfidf needs; leave tfidf out of METHODS, or give it more labels"
        ) from error
    penalties = INVERSE_PENALTIES[TFIDF]
    with threadpool_limits(1, "blas"):
        fitted = fit_regression(penalties, features, labels, groups, classes)
    return TfidfClassifier(words, *fitted)


def fit_probe(
    features: np.ndarray,
    labels: Sequence[int],
    groups: Sequence[str] | None = None,
    classes: int | None = None,
) -> ProbeClassifier:
    """Fit to a frozen encoder's features of n texts, (n, R d) or (n, R, d); else as `fit_tfidf`.

    The regression's logits are W z + b with z = (x - mean) / scale. The weights W / scale and the
    bias b - (W / scale) mean give the same logits from x itself.
    """
    # OpenBLAS's threads spin: beside other work they take minutes for seconds of computation.
    with threadpool_limits(1, "blas"):
        scaler, z, back = standardise(features)
        weight, bias, loss = fit_regression(INVERSE_PENALTIES[PROBE], z, labels, groups, classes)
        weight = back(weight) / scaler.scale_
        return ProbeClassifier(weight, bias - weight @ scaler.mean_, loss)


def choose_pooling(
    features: Mapping[str, np.ndarray], labels: Sequence[int], groups: Sequence[str] | None = None
) -> str:
    """The pooling whose probe has the lowest cross-validated loss; without folds "layers".

    `features` of n texts by pooling: (n, d), or of "layers" (n, L + 1, d).
    """
    losses, labels = {}, np.asarray(labels)
    for pooling, x in features.items():
        with threadpool_limits(1, "blas"):
            z = standardise(x)[1]
            losses[pooling] = choose_penalty(INVERSE_PENALTIES[PROBE], z, labels, groups)[1]
    return "layers" if None in losses.values() else min(losses, key=losses.get)
