"""The baseline, a method without a transformer: TF-IDF and logistic regression.

    text -> words and pairs of neighbouring words (at least 2 reviews have it)
         -> (1 + log count) * log inverse share of reviews, rows of length 1   sparse (n, V)
         -> logistic regression, L2 penalty 1 / C                              log probabilities

The five values of C span two decades, as the learning rates of the other methods do in tuning;
the one with the lowest validation loss is chosen. It reads whole reviews: nothing is truncated.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.pipeline import Pipeline, make_pipeline
from torch import Tensor

from boundary import reading

TFIDF = "tfidf"
INVERSE_PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0)  # C


@dataclass
class BagOfWords:
    """A fitted pipeline: the vectorizer, and the classifier with the C that validation chose."""

    pipeline: Pipeline

    def logits(self, texts: Sequence[str]) -> Tensor:
        """Log probabilities (n, C) of the labels 0 ... C - 1, in float32."""
        return torch.from_numpy(self.pipeline.predict_log_proba(texts)).float()


def fit_bag_of_words(
    texts: Sequence[str],
    labels: Sequence[int],
    validation_texts: Sequence[str],
    validation_labels: Sequence[int],
) -> BagOfWords:
    """Fit on `texts`, choose C on the validation reviews.

    Raises `BadInput` where no word or pair of words occurs in two reviews.
    """
    words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    with reading(f"{len(texts)} training reviews by tfidf", "leave it out of METHODS"):
        features = words.fit_transform(texts)
    validation = words.transform(validation_texts)
    classes = np.unique(labels)
    best = None
    for inverse_penalty in INVERSE_PENALTIES:
        classifier = LogisticRegression(C=inverse_penalty, max_iter=1000).fit(features, labels)
        loss = log_loss(validation_labels, classifier.predict_proba(validation), labels=classes)
        if best is None or loss < best[0]:
            best = loss, classifier
    return BagOfWords(make_pipeline(words, best[1]))
