"""TF-IDF and logistic regression are what their formulas say."""

import numpy as np
import pytest
import torch
from conftest import reviews_frame

from modeling import BASELINES, TFIDF, baseline, fit_bag_of_words


def test_features_are_the_formula_of_the_docstring():
    texts = ["good good film", "bad film", "good plot", "film plot"]
    model = fit_bag_of_words(texts, [1, 0, 1, 0], texts, [1, 0, 1, 0])
    words = model.pipeline[0].get_feature_names_out().tolist()
    assert words == ["film", "good", "plot"]  # "bad" and every pair of words occur once
    counts = np.array([[1, 2, 0], [1, 0, 0], [0, 1, 1], [1, 0, 1]], dtype=float)
    weights = np.where(counts > 0, 1 + np.log(np.maximum(counts, 1)), 0)
    weights *= np.log((1 + 4) / (1 + np.array([3, 2, 2]))) + 1  # smoothed, as scikit-learn does
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    assert model.pipeline[0].transform(texts).toarray() == pytest.approx(weights)
    assert model.pipeline[-1].coef_.shape == (1, 3)


def test_the_penalty_has_the_lowest_validation_loss_and_logits_are_log_probabilities():
    train, other = reviews_frame(80), reviews_frame(40, seed=1)
    losses = {}
    for penalty in baseline.INVERSE_PENALTIES:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(baseline, "INVERSE_PENALTIES", (penalty,))
            model = fit_bag_of_words(train.text, train.label, other.text, other.label)
        logits = model.logits(other.text.tolist())
        assert torch.allclose(logits.exp().sum(1), torch.ones(40), atol=1e-5)
        losses[penalty] = torch.nn.functional.nll_loss(logits, torch.tensor(other.label)).item()
    chosen = fit_bag_of_words(train.text, train.label, other.text, other.label)
    best = min(losses, key=losses.get)
    assert best == chosen.pipeline[-1].C


def test_reviews_without_a_common_word_are_refused():
    with pytest.raises(ValueError, match="leave it out of METHODS"):
        fit_bag_of_words(["one", "two"], [0, 1], ["one"], [0])


def test_it_is_a_method_by_name():
    assert TFIDF in BASELINES
