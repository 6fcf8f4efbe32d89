"""Tables are exact, written whole, and refuse to mix experiments; plots read only them."""

import pandas as pd
import pytest

from evaluation import plots, records

EXPERIMENT = {
    "constants": {"experiment": "t", "epochs": 2, "max_tokens": 8, "methods": ["head"]},
    "model": "tiny",
    "data_set": "made up",
    "label_names": ["bad", "good"],
    "data": {"train": 10, "test": 5},
}


def add(folder, method, seed, accuracy=0.1 + 0.2, status="finished"):
    row = {"method": method, "seed": seed, "status": status, "best_epoch": 2}
    row |= dict.fromkeys(("train_accuracy", "test_accuracy"), accuracy)
    row |= dict.fromkeys(("train_loss", "test_loss"), 0.5)
    row |= {"trainable_percentage": 1.0, "training_seconds": 3.0}
    epoch = {"train_loss": 0.6, "train_accuracy": 0.5, "validation_loss": 0.7}
    history = [
        {"method": method, "seed": seed, "epoch": e, "seconds": e / 3, "validation_accuracy": 0.5}
        | epoch
        for e in (1, 2)
    ]
    predictions = pd.DataFrame({"label": [0, 1], "logit_bad": [1 / 3, 2], "logit_good": [0.1, 1]})
    changes = [
        {"block": b, "place": p, "relative_size": 0.1 * b, "effective_rank": 2.0}
        for b in (0, 1)
        for p in ("q", "o")
    ]
    records.add_run(folder, row, history, changes if method == "lora" else (), predictions)


def test_numbers_come_back_to_the_last_digit(tmp_path):
    add(tmp_path, "head", 0)
    assert records.read_csv(tmp_path / "runs.csv")["test_accuracy"][0] == 0.1 + 0.2
    assert records.read_csv(tmp_path / "history.csv")["seconds"].tolist() == [1 / 3, 2 / 3]
    predictions = records.read_csv(tmp_path / "predictions" / "head-seed0.csv")
    assert predictions["logit_bad"][0] == 1 / 3
    assert not list(tmp_path.rglob("*.part"))


def test_a_run_replaces_only_the_one_of_its_method_and_seed(tmp_path):
    add(tmp_path, "head", 0), add(tmp_path, "head", 1), add(tmp_path, "lora", 0)
    add(tmp_path, "head", 1, accuracy=0.9)
    runs = records.read_csv(tmp_path / "runs.csv").set_index(["method", "seed"])["test_accuracy"]
    assert len(runs) == 3
    assert runs["head", 1] == 0.9 and runs["head", 0] == runs["lora", 0] == 0.1 + 0.2
    assert len(records.read_csv(tmp_path / "history.csv")) == 6


def test_other_constants_in_the_same_folder_are_refused_and_named(tmp_path):
    records.open_experiment(tmp_path, EXPERIMENT)
    add(tmp_path, "head", 0)
    other = EXPERIMENT | {"constants": EXPERIMENT["constants"] | {"epochs": 3}}
    with pytest.raises(ValueError, match="runs with EPOCHS = 2, not 3"):
        records.open_experiment(tmp_path, other)
    more = EXPERIMENT | {"constants": EXPERIMENT["constants"] | {"methods": ["lora"]}}
    assert len(records.open_experiment(tmp_path, more)) == 1
    assert len(records.open_experiment(tmp_path, other, fresh=True)) == 0
    assert not (tmp_path / "predictions").exists()


def test_plots_are_drawn_from_the_files_and_leave_failed_runs_out(tmp_path):
    records.open_experiment(tmp_path, EXPERIMENT)
    add(tmp_path, "head", 0), add(tmp_path, "lora", 0), add(tmp_path, "lora", 1)
    add(tmp_path, "adapter", 0, accuracy=float("nan"), status="failed: loss")
    written = plots.make_plots(tmp_path)
    assert {path.name for path in written} == {
        "train_accuracy.png",
        "test_accuracy.png",
        "train_loss.png",
        "test_loss.png",
        "trainable_percentage.png",
        "training_time.png",
        "learning_curves_epochs.png",
        "learning_curves_seconds.png",
        "changes_lora.png",
    }
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)


def test_nothing_to_draw_is_said(tmp_path):
    records.open_experiment(tmp_path, EXPERIMENT)
    with pytest.raises(ValueError, match="no finished runs"):
        plots.make_plots(tmp_path)
