"""TF-IDF, and logistic regression with a C from cross-validation, are what their formulas say."""

import numpy as np
import pytest
import torch
from conftest import reviews_frame
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from modeling import (
    PROBE,
    cross_validated_loss,
    fit_bag_of_words,
    fit_probe,
    log_probabilities,
)
from modeling.baseline import INVERSE_PENALTIES


def test_features_are_the_formula_of_the_docstring():
    texts = ["good good film", "bad film", "good plot", "film plot"]
    model = fit_bag_of_words(texts, [1, 0, 1, 0])
    words = model[0].get_feature_names_out().tolist()
    assert words == ["film", "good", "plot"]  # "bad" and every pair of words occur once
    counts = np.array([[1, 2, 0], [1, 0, 0], [0, 1, 1], [1, 0, 1]], dtype=float)
    weights = np.where(counts > 0, 1 + np.log(np.maximum(counts, 1)), 0)
    weights *= np.log((1 + 4) / (1 + np.array([3, 2, 2]))) + 1  # smoothed, as scikit-learn does
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    assert model[0].transform(texts).toarray() == pytest.approx(weights)


def features(n, classes=2):
    random = np.random.default_rng(0)
    labels = np.arange(n) % classes
    return random.normal(size=(n, 6)) * [1, 1, 1, 1, 1, 100] + 0.4 * labels[:, None], labels


def penalty_by_hand(z, labels, folds):
    """The C with the lowest mean loss over the folds, and that loss."""
    losses = {}
    for C in INVERSE_PENALTIES[PROBE]:
        classifiers = [
            LogisticRegression(C=C, max_iter=1000).fit(z[a], labels[a]) for a, _ in folds
        ]
        found = [c.predict_proba(z[b]) for c, (_, b) in zip(classifiers, folds, strict=True)]
        losses[C] = np.mean(
            [log_loss(labels[b], p) for p, (_, b) in zip(found, folds, strict=True)]
        )
    return min(losses, key=losses.get), min(losses.values())


def test_the_probes_penalty_has_the_lowest_mean_loss_over_five_folds_of_standardised_features():
    x, labels = features(60)
    z = (x - x.mean(0)) / x.std(0)
    folds = list(StratifiedKFold(5, shuffle=True, random_state=0).split(z, labels))
    best, loss = penalty_by_hand(z, labels, folds)
    assert min(INVERSE_PENALTIES[PROBE]) < best < max(INVERSE_PENALTIES[PROBE])
    model = fit_probe(x, labels)
    assert model[-1].best_params_ == {"C": best}
    assert cross_validated_loss(model) == pytest.approx(loss)
    expected = LogisticRegression(C=best, max_iter=1000).fit(z, labels).predict_log_proba(z)
    assert log_probabilities(model, x).numpy() == pytest.approx(expected, abs=1e-6)


def test_a_probe_of_more_features_than_texts_is_that_of_the_unrotated_features():
    random = np.random.default_rng(0)
    labels = np.arange(40) % 4
    x, new = random.normal(size=(2, 40, 300)) * np.linspace(0.1, 10, 300) + labels[:, None]
    z, z_new = ((a - x.mean(0)) / x.std(0) for a in (x, new))
    model = fit_probe(x, labels)
    assert model[:-1].transform(new).shape == (40, 40)  # what makes it fast
    products = model[:-1].transform(new) @ model[:-1].transform(x).T
    assert products == pytest.approx(z_new @ z.T, abs=1e-9)  # all that an L2 penalty depends on
    folds = list(StratifiedKFold(5, shuffle=True, random_state=0).split(z, labels))
    best, loss = penalty_by_hand(z, labels, folds)
    assert model[-1].best_params_ == {"C": best}
    assert cross_validated_loss(model) == pytest.approx(loss, rel=0.01)  # the solver's tolerance
    expected = LogisticRegression(C=best, max_iter=1000).fit(z, labels).predict_log_proba(z_new)
    assert log_probabilities(model, new).numpy() == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize(("counts", "folds"), [((9, 9, 9), 5), ((9, 9, 3), 3), ((9, 9, 1), None)])
def test_a_rare_class_has_fewer_folds_or_the_middle_penalty(counts, folds):
    labels = np.repeat([0, 1, 2], counts)
    model = fit_probe(features(len(labels))[0] + 0.4 * labels[:, None], labels)
    assert getattr(model[-1], "n_splits_", None) == folds
    assert folds or INVERSE_PENALTIES[PROBE][4] == model[-1].C
    assert (cross_validated_loss(model) is None) == (folds is None)
    logits = log_probabilities(model, features(4)[0])
    assert logits.shape == (4, 3)
    assert torch.allclose(logits.exp().sum(1), torch.ones(4), atol=1e-5)


def test_the_penalty_of_groups_is_that_of_folds_that_share_none():
    x, labels = features(60)
    groups = [f"film {i // 6}" for i in range(60)]  # each has six reviews, three of a label
    x = x + np.random.default_rng(1).normal(size=(10, 6)).repeat(6, axis=0)  # alike within a film
    z = (x - x.mean(0)) / x.std(0)
    folds = list(StratifiedGroupKFold(5, shuffle=True, random_state=0).split(z, labels, groups))
    assert all({groups[i] for i in a}.isdisjoint({groups[i] for i in b}) for a, b in folds)
    best, loss = penalty_by_hand(z, labels, folds)
    found = fit_probe(x, labels, groups)[-1]
    assert found.best_params_ == {"C": best}
    assert -found.best_score_ == pytest.approx(loss)


def test_a_label_of_a_single_group_has_the_middle_penalty():
    x, labels = features(40)
    groups = ["one" if label else f"film {i}" for i, label in enumerate(labels)]
    assert INVERSE_PENALTIES[PROBE][4] == fit_probe(x, labels, groups)[-1].C


def test_a_sure_prediction_has_a_finite_loss():
    """Where 1 - p is 0 in float32, its logarithm is computed from the logits."""
    for classes, log_p in ((2, -800), (3, -800)):
        x, labels = features(30, classes)
        model = fit_probe(x.astype(np.float32), labels)
        found = log_probabilities(model, 1e4 * x.astype(np.float32))
        assert torch.isfinite(found).all() and found.min() < log_p


def test_logits_of_texts_are_log_probabilities():
    train, other = reviews_frame(80), reviews_frame(40, seed=1)
    logits = log_probabilities(fit_bag_of_words(train.text, train.label), other.text)
    assert logits.dtype == torch.float32
    assert torch.allclose(logits.exp().sum(1), torch.ones(40), atol=1e-5)


def test_reviews_without_a_common_word_are_refused():
    with pytest.raises(ValueError, match="leave it out of METHODS"):
        fit_bag_of_words(["one", "two"], [0, 1])
