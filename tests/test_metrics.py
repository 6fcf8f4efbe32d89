"""Metrics are scikit-learn's, and the values of texts have the metric's mean and spread."""

from functools import partial

import numpy as np
import pytest
from scipy.special import softmax
from sklearn import metrics as sklearn

from evaluation.metrics import METRICS, is_collapsed, scores


@pytest.fixture
def rare():
    """Labels (n,) of which one is rare, and logits (n, C) that are often right."""
    rng = np.random.default_rng(0)
    labels = rng.choice(4, 600, p=[0.6, 0.25, 0.1, 0.05])
    return labels, 2.5 * np.eye(4)[labels] + rng.normal(size=(600, 4)) + [1, 0.5, 0, 0]


def test_scores_are_scikit_learns(rare):
    labels, logits = rare
    found, predicted = scores(labels, logits), logits.argmax(1)
    assert found["accuracy"] == pytest.approx(sklearn.accuracy_score(labels, predicted))
    assert found["macro_f1"] == pytest.approx(sklearn.f1_score(labels, predicted, average="macro"))
    assert found["loss"] == pytest.approx(sklearn.log_loss(labels, softmax(logits, axis=1)))
    assert list(found) == list(METRICS)


def test_macro_f1_is_over_all_labels_of_the_task():
    """Also over one that no text has: methods that say it or not have one denominator."""
    labels = np.array([0, 0, 1, 1])
    expected = sklearn.f1_score(labels, labels, average="macro", labels=range(3), zero_division=0)
    found = scores(labels, np.eye(3)[labels])["macro_f1"]
    assert found == pytest.approx(expected) == pytest.approx(2 / 3)


def test_the_spread_of_texts_is_that_of_a_bootstrap_of_scikit_learns_macro_f1(rare):
    labels, logits = rare
    predicted, rng = logits.argmax(1), np.random.default_rng(1)
    drawn = rng.integers(0, len(labels), (1000, len(labels)))
    macro = [sklearn.f1_score(labels[i], predicted[i], average="macro") for i in drawn]
    values = METRICS["macro_f1"].compute(labels, logits)
    assert values.std() / len(labels) ** 0.5 == pytest.approx(np.std(macro), rel=0.05)


def test_one_more_text_moves_macro_f1_as_adding_it_does_and_not_beyond_its_ends():
    """And no text of a label that the test does not have."""
    labels, predicted = np.repeat([0, 0, 1, 1, 2], [500, 60, 400, 40, 1]), np.zeros(1001, int)
    predicted[500:960] = 1
    right, missed = METRICS["macro_f1"].unseen(labels, np.eye(4)[predicted])
    f1 = partial(sklearn.f1_score, average="macro", labels=range(4), zero_division=0)
    more = f1([*labels, 0], [*predicted, 0]) - f1(labels, predicted)
    assert right[0] == pytest.approx(more, rel=0.01)
    less = f1(labels, predicted) - f1([*labels, 0, 0], [*predicted, 3, 3])  # of label 0 alone
    assert 2 * missed[0] == pytest.approx(less, rel=0.01)
    assert right[2] <= 0.25 and right[2] + missed[2] <= 0.25 and right[3] == missed[3] == 0


def test_the_calibration_error_is_the_distance_of_confidence_from_accuracy_in_each_bin():
    """Ten texts of confidence 0.9, seven right; ten of 0.6, all right: (2 + 4) / 20."""
    labels, first = np.array([0] * 7 + [1] * 3 + [0] * 10), np.repeat([0.9, 0.6], 10)
    logits = np.log(np.stack([first, 1 - first], axis=1))
    assert scores(labels, logits)["calibration_error"] == pytest.approx(0.3)


def test_one_label_for_all_texts_is_a_collapse():
    labels, rng = np.array([0, 0, 1]), np.random.default_rng(0)
    assert is_collapsed(labels, rng.random((3, 2)) + [0, 5])
    assert not is_collapsed(labels, np.eye(2)[labels])
    assert not is_collapsed(np.zeros(3, int), np.eye(2)[[0, 0, 0]])  # no text has another
