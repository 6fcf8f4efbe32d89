"""The table of minutes and accuracy beside other packages: what each side is given, and told."""

import numpy as np
import pandas as pd
import pytest

import finetuning
from data_utils import load_task
from studies import whole_question, whole_question_sides


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """The texts of Rotten Tomatoes, and their folds."""
    return whole_question.write_texts("rotten-tomatoes", tmp_path_factory.mktemp("texts"))


def test_as_many_texts_of_each_label_and_none_is_left_out(file):
    texts, folds = whole_question_sides.read(file)
    assert texts["label"].value_counts().to_dict() == {"negative": 400, "positive": 400}
    assert load_task(str(file)).rows["text"].tolist() == texts["text"].str.strip().tolist()
    assert len(folds) == len(texts)


def test_each_text_is_tested_once_and_a_fifth_of_the_others_validates(file):
    _, folds = whole_question_sides.read(file)
    assert ((folds == "test").sum(axis=1) == 1).all()
    assert ((folds == "validation").sum() == 128).all()


def test_no_two_reviews_are_of_one_film(tmp_path, monkeypatch):
    rows = {"text": [f"film {i // 3}, {i}" for i in range(60)], "label": ["bad", "good"] * 30}
    pd.DataFrame(rows | {"film": np.arange(60) // 3}).to_csv(tmp_path / "films.csv", index=False)
    films = load_task(str(tmp_path / "films.csv"), group_column="film")
    monkeypatch.setattr(
        "data_utils.load_task", lambda name: films if name == "f" else load_task(name)
    )
    monkeypatch.setattr(whole_question, "TEXTS", 20)
    texts = pd.read_csv(whole_question.write_texts("f", tmp_path))
    assert not texts["text"].str.split(",").str[0].duplicated().any()


def test_peft_trains_with_the_constants_of_this_package():
    sides, own = whole_question_sides, finetuning.Presets._fields.index("own")
    pairs = {
        "MAX_TOKENS": sides.MAX_TOKENS,
        "BLOCKS": sides.BLOCKS,
        "EPOCHS": sides.EPOCHS,
        "FOLDS": whole_question.FOLDS,
        "TRUNCATION": sides.TRUNCATION,
        "PATIENCE": sides.PATIENCE,
        "BATCH_SIZE": sides.BATCH_SIZE,
        "WEIGHT_DECAY": sides.WEIGHT_DECAY,
        "WARMUP": sides.WARMUP,
        "LORA_RANK": sides.RANK,
        "LORA_ALPHA": sides.ALPHA,
    }
    for name, value in pairs.items():
        constant = getattr(finetuning, name)
        constant = constant[own] if isinstance(constant, finetuning.Presets) else constant
        assert constant == value, name
    assert finetuning.LEARNING_RATES["lora"] == sides.RATES


def test_predictions_are_read_from_the_folds_of_each_method(tmp_path):
    for seed, rows in enumerate(([0, 2], [1, 3])):
        for method, sign in (("lora", 1), ("lora+tfidf", -1)):
            logits = sign * np.array([1.0, -1.0])
            table = {"row": rows, "label": 0, "logit_bad": logits, "logit_not bad": -logits}
            folder = tmp_path / "films" / f"{method}-seed{seed}"
            folder.mkdir(parents=True)
            pd.DataFrame(table).to_csv(folder / "predictions.csv", index=False)
    predicted = whole_question_sides.predicted_in(tmp_path)
    assert predicted["lora"].to_dict() == {0: "bad", 2: "not bad", 1: "bad", 3: "not bad"}
    assert (predicted["lora+tfidf"] != predicted["lora"]).all()


def test_accuracy_is_of_the_texts_that_a_side_tested(tmp_path, monkeypatch):
    texts = {"text": ["fine", "dull", "great"], "label": ["good", "bad", "good"]}
    pd.DataFrame(texts).to_csv(tmp_path / "films.csv", index=False)
    fold = {"lora": pd.Series(["good", "good"], index=[2, 1])}
    monkeypatch.setitem(whole_question_sides.SIDES, "peft", lambda file: fold)
    found = whole_question.answer("peft", tmp_path / "films.csv")
    assert found == {"lora": {"tested": 2, "accuracy": 0.5}}


def test_the_table_has_the_median_minutes_of_the_repeats():
    row = {"dataset": "imdb", "side": "peft", "method": "lora", "accuracy": 0.8, "tested": 800}
    (found,) = whole_question.table([row | {"minutes": m} for m in (3, 1, 2)]).to_dict("records")
    assert (found["minutes"], found["fastest"], found["slowest"], found["repeats"]) == (2, 1, 3, 3)


def test_peft_predicts_each_text_once_and_in_its_place(tmp_path, monkeypatch):
    words = ["dull and awful, "] * 12 + ["a great film, "] * 12
    texts = pd.DataFrame({"text": [text * (1 + i % 5) for i, text in enumerate(words)]})
    texts["label"] = ["bad"] * 12 + ["good"] * 12
    turn = np.arange(24) % 3
    folds = {
        fold: np.choose((turn - fold) % 3, ["test", "validation", "train"]) for fold in range(3)
    }
    texts.to_csv(tmp_path / "films.csv", index=False)
    pd.DataFrame(folds).to_csv(tmp_path / "films-folds.csv", index=False)
    for name, value in {"EPOCHS": 8, "RATES": (1e-3, 3e-3), "MAX_TOKENS": 16}.items():
        monkeypatch.setattr(whole_question_sides, name, value)
    predicted = whole_question_sides.peft(tmp_path / "films.csv")["lora"]
    assert sorted(predicted.index) == list(range(24))
    assert (predicted == texts["label"][predicted.index]).all()
