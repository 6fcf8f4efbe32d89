"""The study of coverage: truths of made-up samples, by hand, and what its intervals hold."""

import numpy as np
import pandas as pd
import pytest

from studies import coverage


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
    assert (table["models_widened"] < 1).mean() > 0.9
    assert (table["half_width_widened"] > table["half_width_bayle"]).all()
