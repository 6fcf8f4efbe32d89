"""The study of coverage: truths of made-up samples, by hand, and what its intervals hold."""

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from studies import advice, coverage


@pytest.fixture
def rows():
    """A pool of 300 texts with two labels."""
    return pd.DataFrame({"label": np.random.default_rng(0).integers(0, 2, 300)})


def sample_of(rows, seed, right=(0.6, 0.8, 0.8)):
    """A sample of 100 texts, whose methods are right as often in it and on the texts left out."""
    rng, labels = np.random.default_rng(seed), rows["label"].to_numpy()
    sample = rng.permutation(len(rows))[:100]
    shares = np.array(right)[:, None, None]
    calls = np.where(rng.random((3, coverage.FOLDS, len(rows))) < shares, labels, 1 - labels)
    outside = calls.copy()
    outside[:, :, sample] = -1
    folds = np.arange(100) % coverage.FOLDS
    return {"sample": sample, "folds": folds, "inside": calls[:, 0, sample], "outside": outside}


def test_the_truth_is_the_accuracy_of_the_folds_models_on_the_texts_left_out(rows):
    sample = sample_of(rows, 0)
    values = coverage.values_left_out("accuracy", rows["label"].to_numpy(), sample["outside"])
    rest = np.setdiff1d(np.arange(300), sample["sample"])
    hits = sample["outside"][:, :, rest] == rows["label"].to_numpy()[rest]
    np.testing.assert_allclose(values[:, rest], hits.mean(axis=1))
    assert np.isnan(values[:, sample["sample"]]).all()


def test_each_sample_pair_and_metric_is_judged(rows):
    """The lead of the probe is twenty points: nearly every interval holds it."""
    table = coverage.judge(rows, [sample_of(rows, seed) for seed in range(20)])
    assert len(table) == 20 * 2 * 2  # pairs and metrics
    assert set(table["pair"]) == {"tfidf - probe", "probe+tfidf - probe"}
    assert (table["widened"] < 1).mean() > 0.9
    assert (table["half_width_widened"] > table["half_width_bayle"]).all()


def test_tfidf_reads_what_scikit_learns_vectorizer_reads():
    texts = np.array([f"{'good' if i % 3 else 'bad'} film number {i % 7} {i}" for i in range(60)])
    counts = csr_array(CountVectorizer(ngram_range=(1, 2)).fit_transform(texts))
    train, other = np.arange(40), np.arange(40, 60)
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    seen, others = coverage.tfidf(counts, train)
    np.testing.assert_allclose(seen.toarray(), vectorizer.fit_transform(texts[train]).toarray())
    np.testing.assert_allclose(
        others(other).toarray(), vectorizer.transform(texts[other]).toarray()
    )


def test_the_probe_predicts_as_one_that_is_not_rotated():
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(60, 100)).astype(np.float32), np.arange(60) % 3
    train, other = np.arange(40), np.arange(40, 60)
    seen, others = coverage.probe(features, train)
    assert seen.shape[1] < 40  # rotated
    rotated = LogisticRegression(C=0.1, tol=1e-8).fit(seen, labels[train])
    plain = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, tol=1e-8))
    plain.fit(features[train], labels[train])
    expected = plain.predict_proba(features[other])
    np.testing.assert_allclose(rotated.predict_proba(others(other)), expected, atol=1e-4)


def test_a_group_is_drawn_as_often_whatever_its_size():
    """One of 20 groups has half of the texts; one sample in 20 begins with it."""
    group = np.repeat(np.arange(20), [50, *[3] * 12, *[2] * 7])
    rows = pd.DataFrame({"group": group, "label": np.arange(100) % 2})
    draws = [coverage.draw(rows, 30, seed) for seed in range(400)]
    assert all(not set(group[sample]) & set(group[rest]) for sample, rest in draws)
    assert np.mean([group[sample[0]] == 0 for sample, _ in draws]) == pytest.approx(0.05, abs=0.04)


def test_the_regret_of_a_rule_is_what_the_method_it_takes_lacks(rows):
    sample = sample_of(rows, 0, right=(0.60, 0.80, 0.82))
    rest = np.setdiff1d(np.arange(300), sample["sample"])
    hits = sample["outside"][:, :, rest] == rows["label"].to_numpy()[rest]
    truth = dict(zip(coverage.METHODS, 100 * hits.mean(axis=(1, 2)), strict=True))
    taken, regrets = advice.taken(rows, sample), advice.regrets(rows, sample)
    assert taken["simplest"] != "tfidf"
    inside = (sample["inside"] == rows["label"].to_numpy()[sample["sample"]]).mean(axis=1)
    assert taken["advice"] == coverage.METHODS[inside.argmax()]
    for rule, method in taken.items():
        assert regrets[rule] == pytest.approx(max(truth.values()) - truth[method])
