"""studies/own_texts.py: what it counts, and one sample by the command that a user types."""

import numpy as np
import pandas as pd
import pytest

from data_utils import load_task
from studies import own_texts


def method(truth, accuracy, half=0.05):
    return {
        "truth": truth,
        "accuracy": accuracy,
        "accuracy_low": accuracy - half,
        "accuracy_high": accuracy + half,
    }


def test_the_regret_is_the_distance_to_the_best_by_the_texts_left_out(monkeypatch):
    monkeypatch.setattr(own_texts, "METHODS", ("tfidf", "lora"))
    first = {"simplest": "lora"} | {
        "methods": {"tfidf": method(0.7, 0.72), "lora": method(0.74, 0.7)}
    }
    other = {"simplest": "tfidf"} | {
        "methods": {"tfidf": method(0.6, 0.7), "lora": method(0.8, 0.8)}
    }
    table = own_texts.table_of({("r8", 300, 0): first, ("r8", 300, 1): other})
    (row,) = own_texts.summary(table).to_dict("records")
    assert row["samples"] == 2
    told = [row[f"regret{rule}"] for rule in ("", "_simplest", "_tfidf", "_lora")]
    assert told == pytest.approx([2, 10, 12, 0])
    drawn, _, _ = own_texts.figure(own_texts.summary(table))
    widths = [bar.get_width() for bar in drawn.axes[0].patches]
    assert widths == pytest.approx([2, 10, 12, 0])


def test_a_sample_is_compared_as_a_user_does_and_judged_by_texts_that_it_lacks(monkeypatch):
    monkeypatch.setattr(own_texts, "METHODS", ("tfidf", "probe", "probe+tfidf"))
    task = load_task("rotten-tomatoes")
    rows = task.rows.sample(120, random_state=0).reset_index(drop=True)[["text", "label"]]
    judged = []
    monkeypatch.setattr(own_texts, "accuracies_on", spy(own_texts.accuracies_on, judged))
    found = own_texts.test_sample(rows, task.label_names, 60, 0)
    ((left_out, results),) = judged
    assert len(left_out) == 60 and results.predictions.rows.tolist() == list(range(60))
    sample, _ = own_texts.draw(rows, 60, 0)
    assert not set(left_out.index) & set(sample)
    labels = np.array(task.label_names)[rows["label"][sample]]
    counts = pd.Series(labels).value_counts().tolist()
    assert sorted(np.bincount(results.predictions.labels)) == sorted(counts)
    assert found["simplest"] in own_texts.METHODS
    for name, told in found["methods"].items():
        assert 0.3 < told["truth"] <= 1, name
        assert told["accuracy_low"] <= told["accuracy"] <= told["accuracy_high"]


def spy(function, calls):
    def wrapped(*given):
        calls.append(given)
        return function(*given)

    return wrapped
