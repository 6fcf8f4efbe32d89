"""Tables are exact, written whole, and refuse to mix experiments; damage is named."""

import pandas as pd
import pytest
from made_up import EXPERIMENT, TESTS, add

from evaluation import records


def test_numbers_come_back_to_the_last_digit(tmp_path):
    row = {"method": "head", "seed": 0, "status": "finished", "test_accuracy": 0.1 + 0.2}
    predictions = pd.DataFrame({"label": [0, 1], "logit_bad": [1 / 3, 2], "logit_good": [0.1, 1]})
    records.add_run(tmp_path, row, [{"epoch": 1, "seconds": 1 / 3}], (), predictions)
    assert records.read_csv(tmp_path / "runs.csv")["test_accuracy"][0] == 0.1 + 0.2
    assert records.read_csv(tmp_path / "history.csv")["seconds"][0] == 1 / 3
    two = EXPERIMENT | {"data": {"test": 2}}
    labels, logits = records.read_predictions(tmp_path, "head", 0, two)
    assert labels.tolist() == [0, 1] and logits.tolist() == [[1 / 3, 0.1], [2, 1]]
    assert not list(tmp_path.rglob("*.part"))


def test_a_run_replaces_only_the_one_of_its_method_and_seed(tmp_path):
    add(tmp_path, "head", 0), add(tmp_path, "head", 1), add(tmp_path, "lora", 0)
    add(tmp_path, "head", 1, right=36)
    runs = records.read_csv(tmp_path / "runs.csv").set_index(["method", "seed"])["test_accuracy"]
    assert len(runs) == 3
    assert runs["head", 1] == 0.9 and runs["head", 0] == runs["lora", 0] == 0.75
    assert len(records.read_csv(tmp_path / "history.csv")) == 6


def test_other_constants_in_the_same_folder_are_refused_and_named(tmp_path):
    records.open_experiment(tmp_path, EXPERIMENT)
    add(tmp_path, "head", 0)
    other = EXPERIMENT | {"constants": EXPERIMENT["constants"] | {"epochs": 3}}
    with pytest.raises(ValueError, match="runs with EPOCHS = 2, not 3"):
        records.open_experiment(tmp_path, other)
    more = EXPERIMENT | {"constants": EXPERIMENT["constants"] | {"methods": ["lora"]}}
    records.open_experiment(tmp_path, more)
    assert records.finished(tmp_path, "runs.csv") == {("head", 0)}
    records.open_experiment(tmp_path, other, fresh=True)
    assert records.finished(tmp_path, "runs.csv") == set()
    assert not (tmp_path / "predictions").exists()


def test_starting_over_deletes_the_page_too(tmp_path):
    records.open_experiment(tmp_path, EXPERIMENT)
    records.write(tmp_path / "report.md", "old")
    records.open_experiment(tmp_path, EXPERIMENT, fresh=True)
    assert not (tmp_path / "report.md").exists()


def test_text_columns_are_read_letter_by_letter(tmp_path):
    table = pd.DataFrame(
        {"label": ["None", "1"], "text": ["NA", 'a "b",\nc'], "confidence": [1, 0]}
    )
    records.write(tmp_path / "t.csv", table.to_csv(index=False))
    read = records.read_csv(tmp_path / "t.csv", ("label", "text"), ("confidence",))
    assert read.equals(table)


def test_finished_and_failed_runs_are_told_apart(tmp_path):
    records.open_experiment(tmp_path, EXPERIMENT)
    add(tmp_path, "head", 0), add(tmp_path, "lora", 0, status="failed: the loss is nan")
    experiment, finished, failed = records.read_experiment(tmp_path)
    assert experiment == EXPERIMENT
    assert finished["method"].tolist() == ["head"] and failed["method"].tolist() == ["lora"]


@pytest.mark.parametrize("only_failed", [False, True])
def test_a_folder_without_finished_runs_is_said(tmp_path, only_failed):
    records.open_experiment(tmp_path, EXPERIMENT)
    if only_failed:
        add(tmp_path, "lora", 0, status="failed: the loss is nan")
    with pytest.raises(ValueError, match="no finished runs"):
        records.read_experiment(tmp_path)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("experiment.json", '{"constants": ', r"experiment\.json is damaged"),
        ("experiment.json", '{"constants": {}}', r"experiment\.json is damaged.* say model"),
        ("experiment.json", "7", r"experiment\.json is damaged"),
        ("runs.csv", "method,seed,status\nhead,0,finished\n", r"runs\.csv is damaged.*test_acc"),
        ("runs.csv", 'method,"seed\n', r"runs\.csv is damaged"),
        ("runs.csv", "", r"runs\.csv is damaged"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, file, text, message):
    records.open_experiment(tmp_path, EXPERIMENT)
    add(tmp_path, "head", 0)
    records.write(tmp_path / file, text)
    with pytest.raises(ValueError, match=message):
        records.read_experiment(tmp_path)


def test_damaged_predictions_are_named(tmp_path):
    add(tmp_path, "head", 0)
    path = tmp_path / "predictions" / "head-seed0.csv"
    whole = path.read_text()
    with pytest.raises(FileNotFoundError, match="head-seed1.csv is missing"):
        records.read_predictions(tmp_path, "head", 1, EXPERIMENT)
    for damaged, message in (
        (whole[: whole[:-1].rindex("\n") + 1], f"complete rows for {TESTS} test reviews"),
        (whole.replace("2.0", "two"), "not all of column logit_bad are numbers"),
        (whole.replace("logit_good", "logit_fine"), "no column logit_good"),
    ):
        path.write_text(damaged)
        with pytest.raises(ValueError, match=f"head-seed0.csv is damaged: .*{message}"):
            records.read_predictions(tmp_path, "head", 0, EXPERIMENT)
