"""The baselines, which are fitted and not trained: logistic regression on words, or on features.

    tfidf    text -> words and pairs of neighbouring words (at least 2 reviews have it)
                  -> (1 + log count) * log inverse share of reviews, rows of length 1     (n, V)
    probe    what the head would read of the frozen encoder, each number
             standardised, and rotated where R d > 2 n                      (n, R d or n)
         -> logistic regression, L2 penalty 1 / C                                  log probabilities

Both get all n labels, and choose C by cross-validation within them: the lowest mean loss over five
folds, stratified by label; no group (a film) is in two folds. Where a label has fewer texts or
groups there are fewer folds; where it has a single one, C is the middle value. Only the regression
is fitted anew in each fold: what comes before it sees no labels. TF-IDF reads whole reviews:
nothing is truncated.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold, StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from torch import Tensor

from boundary import reading

TFIDF, PROBE = "tfidf", "probe"
INVERSE_PENALTIES = {  # C: features that are standardised, and many, take small ones
    TFIDF: (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0),
    PROBE: (1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 1e-1, 1.0),
}
FOLDS = 5


def fit_bag_of_words(
    texts: Sequence[str], labels: Sequence[int], groups: Sequence[str] | None = None
) -> Pipeline:
    """Raises `BadInput` where no word or pair of words occurs in two reviews."""
    words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    with reading(f"{len(texts)} labelled reviews by tfidf", "leave it out of METHODS"):
        features = words.fit_transform(texts)
    return make_pipeline(words, _fit_regression(TFIDF, features, labels, groups))


def fit_probe(
    features: np.ndarray, labels: Sequence[int], groups: Sequence[str] | None = None
) -> Pipeline:
    """On the frozen encoder's features (n, R d).

    Where they are many more than the texts, they are first rotated onto the n directions in which
    the texts lie. An L2 penalty is the same in any rotation, so the solution is the same, too.
    """
    steps, (n, count) = [StandardScaler()], features.shape
    features = steps[0].fit_transform(features)
    if count > 2 * n:  # else it takes longer than it saves
        directions, _ = np.linalg.qr(features.T)  # (R d, n)
        steps.append(FunctionTransformer(np.dot, kw_args={"b": directions}))
        features = steps[1].transform(features)
    return make_pipeline(*steps, _fit_regression(PROBE, features, labels, groups))


def cross_validated_loss(pipeline: Pipeline) -> float | None:
    """The mean loss over the folds at the chosen C; None where no folds could be made."""
    score = getattr(pipeline[-1], "best_score_", None)
    return None if score is None else -score


def log_probabilities(pipeline: Pipeline, inputs: Sequence[str] | np.ndarray) -> Tensor:
    """Of n texts or features: (n, C) for the labels 0 ... C - 1, in float32."""
    logits = torch.as_tensor(pipeline.decision_function(inputs), dtype=torch.float64)
    if logits.ndim == 1:  # of two labels, the second one's
        logits = torch.stack([torch.zeros_like(logits), logits], 1)
    return logits.log_softmax(1).float()


def _fit_regression(name, features, labels, groups):
    """Logistic regression, whose C is chosen by cross-validation where two folds can be made."""
    values, labels = INVERSE_PENALTIES[name], np.asarray(labels)
    kind = StratifiedGroupKFold if groups else StratifiedKFold
    of_label = pd.Series(groups or range(len(labels))).groupby(labels).nunique()
    classifier, parts = LogisticRegression(max_iter=1000), []
    if (folds := min(FOLDS, of_label.min())) > 1:
        parts = kind(folds, shuffle=True, random_state=0).split(features, labels, groups)
        parts = [(rest, held) for rest, held in parts if len(set(labels[rest])) == len(of_label)]
    if not parts:
        return classifier.set_params(C=values[len(values) // 2]).fit(features, labels)
    search = GridSearchCV(classifier, {"C": values}, cv=parts, scoring=_negative_loss)
    return search.fit(features, labels)


def _negative_loss(classifier, features, labels):
    """scikit-learn's own refuses a fold that lacks a label."""
    return -log_loss(labels, classifier.predict_proba(features), labels=classifier.classes_)
