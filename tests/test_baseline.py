"""TF-IDF, and logistic regression with a C from cross-validation, are what their formulas say."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from boundary import BadInput
from data_utils import reviews_file
from modeling import PROBE, choose_pooling, fit_probe, fit_tfidf
from modeling.baseline import INVERSE_PENALTIES, TFIDF, VECTORIZER
from modeling.regression import choose_penalty

PENALTIES = INVERSE_PENALTIES[PROBE]
MIDDLE = PENALTIES[4]


@pytest.fixture(autouse=True)
def one_thread():
    """OpenBLAS's threads spin, which takes long beside other work."""
    with threadpool_limits(1, "blas"):
        yield


def features(n, classes=2):
    random = np.random.default_rng(0)
    labels = np.arange(n) % classes
    return random.normal(size=(n, 6)) * [1, 1, 1, 1, 1, 100] + 0.4 * labels[:, None], labels


def penalty_by_hand(z, labels, folds, penalties=PENALTIES):
    """The C with the lowest mean loss over the folds, and that loss."""
    losses = {C: 0.0 for C in penalties}
    for C, (rest, held) in product(penalties, folds):
        fitted = LogisticRegression(C=C, max_iter=1000).fit(z[rest], labels[rest])
        losses[C] += log_loss(labels[held], fitted.predict_proba(z[held]), labels=fitted.classes_)
    return min(losses, key=losses.get), min(losses.values()) / len(folds)


def test_features_of_texts_are_the_formula_of_the_docstring():
    texts = ["good good film", "bad film", "good plot", "film plot"]
    words = fit_tfidf(texts, [1, 0, 1, 0]).words
    names = words.get_feature_names_out().tolist()
    assert names == ["film", "good", "plot"]  # "bad" and every pair of words occur once
    counts = np.array([[1, 2, 0], [1, 0, 0], [0, 1, 1], [1, 0, 1]], dtype=float)
    weights = np.where(counts > 0, 1 + np.log(np.maximum(counts, 1)), 0)
    weights *= np.log((1 + 4) / (1 + np.array([3, 2, 2]))) + 1  # smoothed, as scikit-learn does
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    assert words.transform(texts).toarray() == pytest.approx(weights)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_probe_has_the_lowest_mean_loss_over_five_folds_and_is_one_map_of_raw_features(classes):
    x, labels = features(60, classes)
    z = StandardScaler().fit_transform(x)
    folds = list(StratifiedKFold(5, shuffle=True, random_state=0).split(z, labels))
    best, loss = penalty_by_hand(z, labels, folds)
    assert min(PENALTIES) < best < max(PENALTIES)
    assert best == choose_penalty(PENALTIES, z, labels, None)[0]
    probe = fit_probe(x, labels)
    assert probe.validation_loss == pytest.approx(loss, rel=1e-3)
    expected = LogisticRegression(C=best, max_iter=1000).fit(z, labels).predict_log_proba(z)
    assert probe.log_probabilities(x).numpy() == pytest.approx(expected, abs=1e-6)
    logits = torch.from_numpy(x @ probe.weight.T + probe.bias)
    assert logits.log_softmax(1).numpy() == pytest.approx(expected, abs=1e-9)


def test_a_probe_of_more_features_than_texts_is_that_of_the_unrotated_features():
    random = np.random.default_rng(0)
    labels = np.arange(40) % 4
    x, new = random.normal(size=(2, 40, 300)) * np.linspace(0.1, 10, 300) + labels[:, None]
    scaler = StandardScaler().fit(x)
    z, z_new = scaler.transform(x), scaler.transform(new)
    probe = fit_probe(x.reshape(40, 3, 100), labels)  # as layers have them
    folds = list(StratifiedKFold(5, shuffle=True, random_state=0).split(z, labels))
    best, loss = penalty_by_hand(z, labels, folds)
    assert best == choose_penalty(PENALTIES, z, labels, None)[0]
    assert probe.validation_loss == pytest.approx(loss, rel=0.01)  # the solver's tolerance
    expected = LogisticRegression(C=best, max_iter=1000).fit(z, labels).predict_log_proba(z_new)
    assert probe.log_probabilities(new).numpy() == pytest.approx(expected, abs=0.03)
    # All of W lies in the directions of the texts, so that the penalty is of the same W.
    W = probe.weight * scaler.scale_
    assert W @ np.linalg.pinv(z, rcond=1e-10) @ z == pytest.approx(W, abs=1e-9)


@pytest.mark.filterwarnings("error")
def test_few_texts_for_each_of_many_labels_are_fitted_without_a_warning():
    x, labels = features(50, classes=20)
    choose_penalty(PENALTIES, x, labels, None)


@pytest.mark.parametrize(("counts", "folds"), [((9, 9, 9), 5), ((9, 9, 3), 3), ((9, 1, 1), None)])
def test_a_rare_label_has_fewer_folds_or_the_middle_penalty(counts, folds):
    labels = np.repeat([0, 1, 2], counts)
    x = features(len(labels))[0] + 0.4 * labels[:, None]
    probe = fit_probe(x, labels)
    if folds is None:
        assert choose_penalty(PENALTIES, x, labels, None) == (MIDDLE, None)
        assert probe.validation_loss is None
        assert choose_pooling({"mean": x, "layers": np.stack([x, x], 1)}, labels) == "layers"
        return
    z = StandardScaler().fit_transform(x)
    pairs = list(StratifiedKFold(folds, shuffle=True, random_state=0).split(z, labels))
    assert probe.validation_loss == pytest.approx(penalty_by_hand(z, labels, pairs)[1], rel=1e-3)


@pytest.mark.parametrize("has_groups", [False, True])
def test_a_label_of_one_text_or_group_leaves_the_choice_of_the_penalty_to_the_others(has_groups):
    x, labels = features(30)
    groups = [f"film {i // 2}" for i in range(30)] if has_groups else None
    expected = choose_penalty(PENALTIES, x, labels, groups)
    assert expected[1] is not None
    places = np.arange(30).tolist()
    places.insert(7, 3)  # a text of a third label, between the others
    rare = np.where(np.arange(31) == 7, 2, labels[places])
    groups = groups and [groups[i] for i in places]
    assert choose_penalty(PENALTIES, x[places], rare, groups) == expected
    assert fit_probe(x[places], rare, groups).weight[2].any()  # but that label is learnt


def test_the_penalty_of_groups_is_that_of_folds_that_share_none():
    x, labels = features(60)
    groups = [f"film {i // 6}" for i in range(60)]  # each has six reviews, three of a label
    x = x + np.random.default_rng(1).normal(size=(10, 6)).repeat(6, axis=0)  # alike within a film
    z = (x - x.mean(0)) / x.std(0)
    folds = list(StratifiedGroupKFold(5, shuffle=True, random_state=0).split(z, labels, groups))
    assert all({groups[i] for i in a}.isdisjoint({groups[i] for i in b}) for a, b in folds)
    best, loss = penalty_by_hand(z, labels, folds)
    probe = fit_probe(x, labels, groups)
    assert best == choose_penalty(PENALTIES, z, labels, groups)[0]
    assert probe.validation_loss == pytest.approx(loss, rel=1e-3)
    names = [f"{group} {'bad' if i % 7 < 3 else 'dull'}" for i, group in enumerate(groups)]
    moods = np.where(np.arange(60) % 5 > 0, labels, 1 - labels)  # one of five is wrong
    texts = [f"{name} {('fine', 'awful')[mood]}" for name, mood in zip(names, moods, strict=True)]
    tfidf = fit_tfidf(texts, labels, groups)
    x = tfidf.words.transform(texts)
    loss = penalty_by_hand(x, labels, folds, INVERSE_PENALTIES[TFIDF])[1]
    assert tfidf.validation_loss == pytest.approx(loss, rel=1e-3)
    groups = ["one" if label else group for label, group in zip(labels, groups, strict=True)]
    assert choose_penalty(PENALTIES, x, labels, groups) == (MIDDLE, None)


def test_a_fold_whose_other_texts_lack_a_label_is_left_out():
    labels, groups = np.array([0, 2, 2, 1, 0, 1, 0, 0]), [0, 3, 2, 0, 3, 3, 0, 0]
    x = np.random.default_rng(0).normal(size=(8, 3)) + labels[:, None]
    folds = StratifiedGroupKFold(2, shuffle=True, random_state=0).split(x, labels, groups)
    kept = [(rest, held) for rest, held in folds if {*labels[rest]} == {0, 1, 2}]
    assert len(kept) == 1
    expected = penalty_by_hand(x, labels, kept)
    assert choose_penalty(PENALTIES, x, labels, groups) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("seen", [(0, 2), (1, 2, 3), (2,)])
def test_a_label_of_the_task_without_a_training_text_is_very_unlikely(seen):
    x, labels = features(30, len(seen))
    labels = np.array(seen)[labels]
    texts = [f"word{label} film" for label in labels]
    for classifier, inputs in (
        (fit_probe(x, labels, classes=5), x),
        (fit_tfidf(texts, labels, classes=5), texts),
    ):
        logs = classifier.log_probabilities(inputs)
        assert logs.shape == (30, 5) and logs.isfinite().all()
        unseen = [label for label in range(5) if label not in seen]
        assert logs[:, unseen].max() < -49
        assert torch.allclose(logs[:, list(seen)].exp().sum(1), torch.ones(30))
    known = np.searchsorted(seen, labels)  # the others are as if the task had these labels alone
    expected = fit_probe(x, known, classes=len(seen)).log_probabilities(x)
    logs = fit_probe(x, labels, classes=5).log_probabilities(x)
    assert torch.allclose(logs[:, list(seen)], expected, atol=1e-6)


def test_a_sure_prediction_has_a_finite_loss():
    """Where 1 - p is 0 in float32, its logarithm is computed from the logits."""
    for classes in (2, 3):
        x, labels = features(30, classes)
        logs = fit_probe(x.astype(np.float32), labels).log_probabilities(1e4 * x)
        assert torch.isfinite(logs).all() and logs.min() < -800


def test_of_no_texts_there_are_no_probabilities():
    x, labels = features(60, 3)
    assert fit_probe(x, labels).log_probabilities(x[:0]).shape == (0, 3)
    words = fit_tfidf(["good film", "bad film"] * 9, [1, 0] * 9)
    assert words.log_probabilities([]).shape == (0, 2)


def test_words_are_scikit_learns_and_letters_where_no_space_ends_a_word():
    split = TfidfVectorizer(**VECTORIZER).build_analyzer()
    reviews = pd.read_csv(reviews_file())["text"].head(300)
    default = TfidfVectorizer(ngram_range=(1, 2)).build_analyzer()
    assert all(split(review) == default(review) for review in reviews)
    assert split("手机坏iOS") == ["手", "机", "坏", "ios", "手 机", "机 坏", "坏 ios"]
    assert split("ช้า")[:2] == ["ช", "้"] and split("😀😡")[:2] == ["😀", "😡"]
    words = ["डिलीवरी", "में", "كَتَبَ", "sto\u0308rung"]  # with vowels or accents that stand alone
    assert split(" ".join(words))[: len(words)] == words
    texts = ["物流很慢", "物流太慢", "付款失败", "付款成功"] * 5
    assert fit_tfidf(texts, [0, 0, 1, 1] * 5).log_probabilities(["物流"])[0].argmax() == 0


def test_an_encoder_that_tells_no_texts_apart_is_refused_in_words():
    for width in (3, 90):
        with pytest.raises(BadInput, match="gives all 30 texts the same features: .* --model"):
            fit_probe(np.full((30, width), 0.3, np.float32), [0, 1] * 15)


def test_texts_without_a_common_word_are_refused_in_words():
    for texts in (["one", "two"], ["!", "?"], ["good film"]):
        with pytest.raises(BadInput, match=f"no word or pair .* in two of the {len(texts)} train"):
            fit_tfidf(texts, list(range(len(texts))))


def test_the_pooling_is_the_one_whose_probe_has_the_lower_loss():
    random, labels = np.random.default_rng(0), np.arange(120) % 2
    layers, first = random.normal(size=(120, 4, 5)), random.normal(size=(120, 5))
    given = {"layers": layers, "mean": layers[:, 3], "first": first}
    layers[:, 1, 0] += labels  # a middle layer knows the label
    assert choose_pooling(given, labels) == "layers"
    layers[:, 3, 0] += 4 * labels  # the last one knows it better; the others are noise
    assert choose_pooling(given, labels) == "mean"
    first[:, 0] += 8 * labels  # and the first token best
    assert choose_pooling(given, labels) == "first"


def test_the_pooling_is_not_the_one_that_knows_the_group():
    """All texts of a film have one label: a layer that tells films apart says nothing of others."""
    random, film = np.random.default_rng(0), np.arange(240) // 6
    labels = film % 2
    layers = random.normal(size=(240, 3, 10))
    layers[:, 2, 0] += 1.5 * labels
    layers[:, 1] = random.normal(size=(40, 10))[film]
    given = {"layers": layers, "mean": layers[:, 2]}
    chosen = [choose_pooling(given, labels, groups) for groups in (None, film.tolist())]
    assert chosen == ["layers", "mean"]
