"""SetFit beside our methods: what its package is given, and what is kept of what it answers."""

import json
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

import hardware
from experiment import Run
from modeling import BASELINES, Method
from studies import setfit

OPTIONS = ("--preset", "quick", "--experiment", "peer", "--max-tokens", "12", "--pooling", "mean")
SPLITS = ("--folds", "None", "--labels", "40", "--seeds", "0", "1", "--contrasts")


class Package(ModuleType):
    """A `setfit` that calls a text good, with 80 %, where it has "good" or "great"."""

    def __init__(self):
        super().__init__("setfit")
        self.TrainingArguments, self.loaded, self.trained = SimpleNamespace, [], []
        self.SetFitModel = SimpleNamespace(from_pretrained=self.load)

    def load(self, folder):
        body = torch.nn.Linear(8, 1, bias=False)
        body.folder, body.tokenizer = folder, SimpleNamespace()
        self.loaded.append(body)
        return SimpleNamespace(model_body=body, predict_proba=self.predict)

    def predict(self, texts):
        good = torch.tensor([not {"good", "great"}.isdisjoint(text.split()) for text in texts])
        return torch.where(good[:, None], torch.tensor([0.2, 0.8]), torch.tensor([0.8, 0.2]))

    def Trainer(self, model, **given):
        return SimpleNamespace(train=lambda: self.train(model.model_body, given))

    def train(self, body, given):
        """One step, in which each of the 8 weights has the gradient 1."""
        before = body(torch.ones(1, 8))
        before.sum().backward()
        torch.optim.SGD(body.parameters(), lr=1.0).step()
        self.trained.append(given | {"dtype": before.dtype})
        self.moved = (before - body(torch.ones(1, 8))).item()


@pytest.fixture
def package(monkeypatch):
    monkeypatch.setitem(sys.modules, "setfit", Package())
    monkeypatch.setitem(BASELINES, "setfit", {})  # until the test ends
    return sys.modules["setfit"]


@pytest.mark.usefixtures("without_figures")
def test_setfit_has_the_labels_tokens_and_test_of_the_others(
    package, model_folder, reviews_csv, tmp_path
):
    given = ["--model", str(model_folder), "--dataset", str(reviews_csv), *OPTIONS, *SPLITS]
    given += ["--results", str(tmp_path), "--methods", "setfit", "probe", "tfidf+setfit"]
    assert setfit.main(given) == 0

    folder = tmp_path / "peer"
    about = json.loads((folder / "experiment.json").read_text())
    assert about["command"].startswith("python -m studies.setfit --model ")
    for seed, (body, call) in enumerate(zip(package.loaded, package.trained, strict=True)):
        assert body.folder == str(model_folder) and call["args"].seed == seed
        assert (body.max_seq_length, body.tokenizer.truncation_side) == (12, "left")
        runs = [folder / f"{name}-seed{seed}" for name in ("setfit", "probe", "tfidf+setfit")]
        tables = [pd.read_csv(run / "predictions.csv") for run in runs]
        assert len(call["train_dataset"]) == 40 and len(tables[0]) == 12
        for other in tables[1:]:
            assert other[["row", "label"]].equals(tables[0][["row", "label"]])
        logits, labels = tables[0].filter(like="logit_").to_numpy(), tables[0]["label"]
        correct = logits.argmax(1) == labels
        scores = json.loads((runs[0] / "run.json").read_text())["scores"]
        assert 0.5 < correct.mean() == pytest.approx(scores["test_accuracy"])
        chances = np.where(correct, 0.8, 0.2)
        assert scores["test_loss"] == pytest.approx(-np.log(chances).mean(), rel=1e-6)
    first, second = (set(call["train_dataset"]["text"]) for call in package.trained)
    assert not first & second  # each seed has its own training sample


def test_in_bf16_the_next_forward_pass_has_what_a_step_has_learnt(package, monkeypatch, tmp_path):
    monkeypatch.setattr(hardware, "compute_type", lambda device: torch.bfloat16)
    encoder = SimpleNamespace(config=SimpleNamespace(_name_or_path="folder"))
    settings = SimpleNamespace(max_tokens=12, truncation="left", final=False)
    split = SimpleNamespace(texts=["good", "dull"], labels=torch.tensor([1, 0]))
    data = SimpleNamespace(encoder=encoder, settings=settings, device=torch.device("cpu"))
    data.labelled, data.splits = lambda run: split, lambda run: {"test": split}
    run = Run(tmp_path, Method("setfit", {}), 0, {}, {}, ["bad", "good"])
    monkeypatch.setattr(Run, "finish", lambda *_: None)
    setfit.fit(run, data, settings)
    assert package.trained[0]["dtype"] is torch.bfloat16
    assert package.moved == pytest.approx(8, abs=0.1)


def test_a_final_model_of_setfit_is_refused(package, model_folder, reviews_csv, tmp_path, capsys):
    given = ["--model", str(model_folder), "--dataset", str(reviews_csv), *OPTIONS]
    assert setfit.main([*given, "--results", str(tmp_path), "--final", "setfit"]) > 0
    assert "this study keeps no model of SetFit" in capsys.readouterr().err
