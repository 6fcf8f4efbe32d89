"""What a run does with its constants, labels and seed: computed again from its files."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import reviews_frame

import finetuning
import modeling
from data_utils import load_task
from modeling import fit_tfidf, load_finetuned
from modeling.pooling import POOLINGS
from records import RunRecord

pytestmark = pytest.mark.usefixtures("without_figures", "in_float32_on_the_cpu")

OWN = ["--labels", "60", "--validation-share", "0.4", "--split-seed", "3", "--max-tokens", "8"]
OWN += ["--truncation", "right", "--learning-rates", "head=0.01", "lora=0.05,0.0001"]


def test_a_runs_numbers_are_those_of_its_checkpoint_on_its_own_texts(
    command, reviews_csv, tmp_path
):
    """The weights with the lowest validation loss; TF-IDF learns the texts of validation, too."""
    given = ["--methods", "head", "lora", "tfidf", "--seeds", "0", "1", *OWN]
    assert finetuning.main(command(*given)) == 0
    task, runs = load_task(str(reviews_csv)), list((tmp_path / "results" / "tiny").glob("*-seed*"))
    assert len(runs) == 6
    for folder in runs:
        record, classify = RunRecord.in_folder(folder), load_finetuned(folder)
        parts = task.divide(record.seed, 60, 0.4, split_seed=3)
        loss = {}
        for name in ("train", "validation", "test"):
            rows = task.rows.iloc[getattr(parts, name)]
            logs = classify.probabilities(rows["text"]).log().numpy()
            loss[name] = -logs[np.arange(len(rows)), rows["label"]].mean()
        table = pd.read_csv(folder / "predictions.csv")
        assert table["row"].tolist() == parts.test.tolist()
        assert record.scores["test_loss"] == pytest.approx(loss["test"], rel=1e-4)
        if record.baseline:
            rows = task.rows.iloc[[*parts.train, *parts.validation]]
            fitted = fit_tfidf(rows["text"].tolist(), rows["label"].tolist())
            expected = fitted.log_probabilities(task.rows["text"].tolist()).exp()
            assert classify.probabilities(task.rows["text"]) == pytest.approx(expected, abs=1e-6)
        else:
            assert record.scores["validation_loss"] == pytest.approx(loss["validation"], rel=1e-4)
            assert record.scores["train_loss"] == pytest.approx(loss["train"], rel=1e-4)


def test_pooling_and_baselines_are_chosen_within_each_seeds_labels_and_groups(
    command, tmp_path, monkeypatch
):
    frame = reviews_frame(120).assign(who=[f"u{i // 3}" for i in range(120)])
    frame.to_csv(path := tmp_path / "own.csv", index=False)
    seen = {name: [] for name in ("choose_pooling", "fit_probe", "fit_tfidf")}

    def noted(fit, x, labels, groups, *classes):
        seen[fit.__name__].append([labels.tolist(), groups])
        if isinstance(x, dict):  # the features of each pooling
            assert x.keys() == set(POOLINGS) and x["first"].shape == x["mean"].shape
            assert (x["mean"] == x["layers"][:, -1]).all() and (x["first"] != x["mean"]).any()
        return fit(x, labels, groups, *classes)

    for name in seen:
        monkeypatch.setattr(modeling, name, partial(noted, getattr(modeling, name)))
    given = ["--methods", "probe", "tfidf", "lora", "lora(labels=0.5)"]
    given += ["--pooling", "auto", "--labels", "40"]
    given += ["--dataset", path, "--group-column", "who", "--seeds", "0", "1"]
    assert finetuning.main(command(*given)) == 0
    task = load_task(str(path), group_column="who")
    parts = [task.divide(seed, 40) for seed in (0, 1)]
    rows = [task.rows.iloc[[*p.train, *p.validation]] for p in parts]
    expected = [[part["label"].tolist(), part["group"].tolist()] for part in rows]
    halves = [seen["choose_pooling"].pop() for _ in parts]  # of LoRA on half of the labels
    assert seen == dict.fromkeys(seen, expected)
    assert [len(labels) for labels, _ in halves] == [20, 20]


def test_seeds_with_the_same_labels_have_other_weights_and_another_order(command, monkeypatch):
    begun, seen, batches = [], [], finetuning.training_batches

    def train(model, *_):
        begun.append(torch.cat([p.flatten() for p in model.trainable_parameters().values()]))

    given = command("--methods", "lora", "--seeds", "0", "1")
    monkeypatch.setattr(finetuning, "training_batches", lambda *a: seen.append(a[2]) or batches(*a))
    assert finetuning.main(given) == 0
    assert set(seen) == {0, 1}
    monkeypatch.setattr(finetuning, "train", train)
    finetuning.main([*given, "--fresh"])
    assert not torch.equal(*begun)


def test_left_out_rows_are_listed_and_an_earlier_list_goes(command, tmp_path):
    path, folder = tmp_path / "reviews.csv", tmp_path / "results" / "tiny"
    frame = reviews_frame(60).replace({"label": {0: "bad", 1: "good"}})
    rows = pd.DataFrame({"text": ["=1+1", frame["text"][0]], "label": ["", "bad"]})
    pd.concat([frame, rows]).to_csv(path, index=False)
    assert finetuning.main(command("--methods", "tfidf")) == 0
    table = pd.read_csv(folder / "left_out.csv")
    found = table[["row", "reason"]].to_numpy().tolist()
    assert found == [[62, "no label"], [63, "a repeated text"]]
    assert table["text"][0] == "'=1+1" and set(table["split"]) == {"train"}
    assert table["label"].isna().tolist() == [True, False] and table["label"][1] == "bad"
    frame.to_csv(path, index=False)
    assert finetuning.main(command("--methods", "tfidf", "--fresh")) == 0
    assert not (folder / "left_out.csv").exists()
