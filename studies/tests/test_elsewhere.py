"""The study of models on other texts: whose texts, whose labels, and the accuracies by hand."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from studies import elsewhere

LABELS = ["bad", "good"]


@pytest.fixture
def results(monkeypatch, tmp_path):
    """Two seeds of two methods; the model of seed s is right on all texts but the first s."""
    monkeypatch.setattr(elsewhere, "METHODS", ("probe", "lora"))
    monkeypatch.setattr(elsewhere, "PAIRS", (("lora", "probe"),))

    def load_finetuned(folder):
        method, seed = folder.name.split("-seed")
        wrong = int(seed) + (method == "probe")

        def probabilities(texts):
            labels = [LABELS.index(text.split()[1]) for text in texts]
            labels = [1 - y if i < wrong else y for i, y in enumerate(labels)]
            return torch.nn.functional.one_hot(torch.tensor(labels), 2).float()

        return SimpleNamespace(probabilities=probabilities)

    monkeypatch.setattr(elsewhere, "load_finetuned", load_finetuned)
    runs = [(method, seed, 0.9) for method in elsewhere.METHODS for seed in (1, 2)]
    return SimpleNamespace(
        folder=tmp_path,
        experiment={"label_names": LABELS, "constants": {"dataset": "home"}},
        predictions=SimpleNamespace(logits=dict.fromkeys(("probe", "lora"), {1: None, 2: None})),
        runs=pd.DataFrame(runs, columns=["method", "seed", "test_accuracy"]),
        intervals=pd.DataFrame({"method": ["probe", "lora"], "accuracy": [0.7, 0.8]}),
        labels=lambda methods: [{"probe": "probe", "lora": "LoRA"}[method] for method in methods],
    )


def test_a_run_is_judged_by_the_other_tasks_texts_and_its_accuracy_at_home_kept(results):
    labels = ["good", "bad"] * 10
    texts = pd.DataFrame({"text": [f"a {label} film" for label in labels], "label": labels})
    scores = elsewhere.tested_on(results, texts, None)
    rows = elsewhere.rows_of(results, scores, "other").set_index(["method", "seed"])
    assert rows["elsewhere"].to_dict() == pytest.approx(
        {("probe", 1): 0.9, ("probe", 2): 0.85, ("lora", 1): 0.95, ("lora", 2): 0.9}
    )
    assert set(rows["at_home"]) == {0.9} and set(rows["tested_on"]) == {"other"}
    page = elsewhere.section(results, scores, "other", 20)
    assert "| probe | 70.0 | 87.5 (" in page and "| LoRA | 80.0 | 92.5 (" in page
    assert "| LoRA − probe | 5.0 (" in page


def test_the_texts_are_those_that_the_other_experiment_has_tested(monkeypatch):
    rows = pd.DataFrame({"text": ["a", "b", "c"], "label": [0, 1, 1]})
    task = SimpleNamespace(rows=rows, label_names=LABELS)
    monkeypatch.setattr(elsewhere, "load_task", lambda name: task)
    predictions = SimpleNamespace(labels=np.array([1, 0]), rows=np.array([2, 0]), groups=None)
    tested = SimpleNamespace(experiment={"constants": {"dataset": "x"}}, predictions=predictions)
    texts, groups = elsewhere.texts_of(tested)
    assert texts["text"].tolist() == ["c", "a"] and texts["label"].tolist() == ["good", "bad"]
    assert groups is None


def test_texts_are_drawn_from_a_file_that_is_sorted_by_label(monkeypatch):
    monkeypatch.setattr(elsewhere, "MOST", 100)
    labels = np.arange(400) // 200
    rows = pd.DataFrame({"text": [f"text {i}" for i in range(400)], "label": labels})
    task = SimpleNamespace(rows=rows, label_names=LABELS)
    monkeypatch.setattr(elsewhere, "load_task", lambda name: task)
    predictions = SimpleNamespace(labels=labels, rows=np.arange(400), groups=np.arange(400) // 2)
    tested = SimpleNamespace(experiment={"constants": {"dataset": "x"}}, predictions=predictions)
    texts, groups = elsewhere.texts_of(tested)
    assert len(texts) == 100 and 30 < (texts["label"] == "good").sum() < 70
    assert groups.tolist() == (texts.index // 2).tolist()
