"""SetFit beside our methods: what its package is given, and what is kept of what it answers."""

import json
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from studies import setfit

OPTIONS = ("--experiment", "peer", "--max-tokens", "12", "--truncation", "left", "--blocks", "all")
SPLITS = ("--labels", "60", "--test-examples", "30", "--seeds", "0", "1")


class Package(ModuleType):
    """A `setfit` that calls a text good, with 80 %, where it has "good" or "great"."""

    def __init__(self):
        super().__init__("setfit")
        self.TrainingArguments, self.loaded, self.trained = SimpleNamespace, [], []
        self.SetFitModel = SimpleNamespace(from_pretrained=self.load)

    def load(self, folder):
        body = SimpleNamespace(folder=folder, tokenizer=SimpleNamespace())
        self.loaded.append(body)
        return SimpleNamespace(model_body=body, predict_proba=self.predict)

    def predict(self, texts):
        good = torch.tensor([not {"good", "great"}.isdisjoint(text.split()) for text in texts])
        return torch.where(good[:, None], torch.tensor([0.2, 0.8]), torch.tensor([0.8, 0.2]))

    def Trainer(self, **given):
        return SimpleNamespace(train=lambda: self.trained.append(given))


@pytest.fixture
def package(monkeypatch):
    monkeypatch.setitem(sys.modules, "setfit", Package())
    return sys.modules["setfit"]


@pytest.mark.usefixtures("without_figures")
def test_setfit_has_the_labels_tokens_and_test_of_the_others(
    package, model_folder, reviews_csv, tmp_path
):
    given = ["--model", str(model_folder), "--dataset", str(reviews_csv), *OPTIONS, *SPLITS]
    given += ["--results", str(tmp_path), "--methods", "setfit", "probe", "tfidf"]
    assert setfit.main(given) == 0

    folder = tmp_path / "peer"
    assert "-m studies.setfit" in json.loads((folder / "experiment.json").read_text())["command"]
    for seed, (body, call) in enumerate(zip(package.loaded, package.trained, strict=True)):
        assert body.folder == str(model_folder) and call["args"].seed == seed
        assert (body.max_seq_length, body.tokenizer.truncation_side) == (12, "left")
        runs = [folder / f"{name}-seed{seed}" for name in ("setfit", "probe")]
        ours, probe = (pd.read_csv(run / "predictions.csv") for run in runs)
        assert len(call["train_dataset"]) == 60 and len(ours) == 12
        assert ours["label"].equals(probe["label"])
        right = np.sign(ours.iloc[:, 2] - ours.iloc[:, 1]) == 2 * ours["label"] - 1
        record = json.loads((runs[0] / "run.json").read_text())
        assert 0.5 < right.mean() == pytest.approx(record["test_accuracy"])
        chances = np.where(right, 0.8, 0.2)
        assert record["test_loss"] == pytest.approx(-np.log(chances).mean(), rel=1e-6)
    first, second = (set(call["train_dataset"]["text"]) for call in package.trained)
    assert first != second  # each seed draws its own labels
