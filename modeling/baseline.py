"""The baselines, which are fitted and not trained: logistic regression on words, or on features.

    tfidf    text -> words and pairs of neighbouring words (at least 2 reviews have it)
                  -> (1 + log count) * log inverse share of reviews, rows of length 1     (n, V)
    probe    what the frozen encoder gives, all of POOLING side by side, each number
             standardised                                                            (n, R d)
         -> logistic regression, L2 penalty 1 / C                                  log probabilities

Both get all n labels, and choose C by cross-validation within them: the lowest mean loss over five
folds, stratified by label (fewer where a class has fewer labels; where one has a single label, the
middle C). Only the regression is fitted anew in each fold: what comes before it sees no labels.
TF-IDF reads whole reviews: nothing is truncated.
"""

from collections.abc import Sequence

import numpy as np
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from boundary import reading

TFIDF, PROBE = "tfidf", "probe"
INVERSE_PENALTIES = {  # C: features that are standardised, and many, take small ones
    TFIDF: (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0),
    PROBE: (1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 1e-1, 1.0),
}
FOLDS = 5


def fit_bag_of_words(texts: Sequence[str], labels: Sequence[int]) -> Pipeline:
    """Raises `BadInput` where no word or pair of words occurs in two reviews."""
    words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    with reading(f"{len(texts)} labelled reviews by tfidf", "leave it out of METHODS"):
        features = words.fit_transform(texts)
    return make_pipeline(words, _regression(TFIDF, labels).fit(features, labels))


def fit_probe(features: np.ndarray, labels: Sequence[int]) -> Pipeline:
    """On the frozen encoder's features (n, R d)."""
    return make_pipeline(StandardScaler(), _regression(PROBE, labels)).fit(features, labels)


def log_probabilities(pipeline: Pipeline, inputs: Sequence[str] | np.ndarray) -> Tensor:
    """Of n texts or features: (n, C) for the labels 0 ... C - 1, in float32."""
    return torch.from_numpy(pipeline.predict_log_proba(inputs)).float()


def _regression(name, labels):
    """Logistic regression, whose C is chosen by cross-validation where a class has two labels."""
    folds, values = min(FOLDS, np.bincount(labels).min()), INVERSE_PENALTIES[name]
    if folds < 2:
        return LogisticRegression(C=values[len(values) // 2], max_iter=1000)
    split = StratifiedKFold(folds, shuffle=True, random_state=0)
    classifier = LogisticRegression(max_iter=1000)
    return GridSearchCV(classifier, {"C": values}, cv=split, scoring="neg_log_loss")
