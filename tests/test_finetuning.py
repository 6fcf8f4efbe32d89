"""The whole path on tiny inputs, as a user starts it."""

import json

import pandas as pd
import pytest
import torch
from huggingface_hub import constants
from torch.nn.functional import cross_entropy

import finetuning
from data_utils import load_task
from evaluation import plots, report
from evaluation.results import Results
from modeling import METHODS
from studies import compact

pytestmark = pytest.mark.usefixtures("without_figures", "on_the_cpu")


def read(folder, name):
    return pd.read_csv(folder / name)


def test_the_main_job_leaves_every_file_and_the_right_numbers(
    command, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(report, "draw", plots.draw)
    methods = ["head", "adapter", "lora", "lora(rank=2, targets=('q',))", "full"]
    assert finetuning.main(command("--methods", *methods, "--evaluations-per-epoch", "2")) == 0
    folder = tmp_path / "results" / "tiny"
    runs = read(folder, "runs.csv")
    assert runs["method"].tolist() == methods
    experiment = json.loads((folder / "experiment.json").read_text())
    assert experiment["constants"]["methods"] == methods
    assert experiment["data"]["train"] + experiment["data"]["test"] < 120
    names = ["head", "adapter", "lora", "lora-rank=2-targets=q", "full"]
    for row, name in zip(runs.itertuples(), names, strict=True):
        own = folder / f"{name}-seed0"
        scores = json.loads((own / "run.json").read_text())["scores"]
        assert scores["test_accuracy"] == row.test_accuracy
        predictions = read(own, "predictions.csv")
        logits = torch.tensor(predictions[["logit_0", "logit_1"]].to_numpy())
        labels = torch.tensor(predictions["label"].to_numpy())
        assert len(labels) == experiment["data"]["test"]
        assert row.test_accuracy == pytest.approx((logits.argmax(1) == labels).double().mean())
        assert row.test_loss == pytest.approx(cross_entropy(logits, labels).item(), rel=1e-6)
        percentage = 100 * row.trainable_parameters / row.total_parameters
        assert row.trainable_percentage == pytest.approx(percentage)
        history, steps = read(own, "history.csv"), read(own, "steps.csv")
        assert history["epoch"].tolist()[1::2] == [1, 2] and len(history) == 4
        best = history.loc[history["validation_loss"].idxmin()]
        assert best["step"] == row.best_step and best["epoch"] == row.best_epoch
        assert best["validation_loss"] == row.validation_loss
        assert steps["step"].tolist() == list(range(1, history["step"].iloc[-1] + 1))
        assert history["seconds"].is_monotonic_increasing
        assert history["seconds"].iloc[-1] == row.training_seconds
    assert len({name for name in runs["name"]}) == 4
    printed = capsys.readouterr()
    assert "Experiment tiny, preset quick: head, " in printed.out
    assert "Runs to do: 5" in printed.out
    assert "|" not in printed.err  # no progress bars where there is no terminal


def test_same_seed_gives_the_same_numbers_to_the_last_digit(command, tmp_path):
    for results in ("one", "two"):
        assert finetuning.main(command("--lora-dropout", "0.1", results=results)) == 0
    one, two = tmp_path / "one" / "tiny", tmp_path / "two" / "tiny"
    for method in ("head", "adapter", "lora"):
        own = f"{method}-seed0"
        predictions = [(folder / own / "predictions.csv").read_bytes() for folder in (one, two)]
        assert predictions[0] == predictions[1]
        for name in ("history.csv", "steps.csv"):
            first, second = (read(folder / own, name) for folder in (one, two))
            timed = [] if name == "steps.csv" else ["seconds"]
            assert first.drop(columns=timed).equals(second.drop(columns=timed))
    assert finetuning.main(command("--seeds", "1", "--methods", "lora", results="three")) == 0
    other = tmp_path / "three" / "tiny" / "lora-seed1" / "predictions.csv"
    assert other.read_bytes() != (one / "lora-seed0" / "predictions.csv").read_bytes()


def test_a_variant_with_the_constants_values_is_the_method_itself(command, tmp_path):
    assert finetuning.main(command("--methods", "lora", results="one")) == 0
    variant = "lora(rank=16, learning_rate=0.01)"
    given = command("--methods", variant, "--lora-rank", "2", "--epochs", "2", results="two")
    given[given.index("lora=0.01")] = "lora=0.5"
    assert finetuning.main(given) == 0
    own = "lora-rank=16-learning_rate=0.01-seed0"
    one = (tmp_path / "one" / "tiny" / "lora-seed0" / "predictions.csv").read_bytes()
    assert one == (tmp_path / "two" / "tiny" / own / "predictions.csv").read_bytes()


def test_out_of_memory_fails_its_run_with_what_to_change_and_no_other(
    command, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "home"))  # no states are there yet

    def scarce(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(METHODS["lora"], "classify", scarce)
    assert finetuning.main(command("--methods", "lora", "adapter", "--blocks", "1")) == 1
    runs = read(tmp_path / "results" / "tiny", "runs.csv").set_index("method")
    assert runs.loc["adapter", "status"] == "finished"
    expected = "out of memory; lower MICRO_BATCH_TOKENS first (it changes no result), then"
    assert expected in runs.loc["lora", "status"]
    assert expected in capsys.readouterr().err


def test_a_loss_that_is_not_finite_stops_its_run_and_no_other(command, tmp_path, capsys):
    rates = ["--learning-rates", "head=1e15", "lora=0.01"]
    assert finetuning.main(command("--methods", "head", "lora", *rates)) == 1
    runs = read(tmp_path / "results" / "tiny", "runs.csv").set_index("method")
    assert runs.loc["head", "status"].startswith("failed: the loss is not finite at any")
    assert runs.loc["lora", "status"] == "finished"
    assert "head seed 0 failed" in capsys.readouterr().err


def test_the_groups_of_the_test_reviews_are_kept_as_numbers_and_drawn_whole(
    command, reviews_csv, tmp_path
):
    authors = [f"author {i // 5}" for i in range(120)]
    pd.read_csv(reviews_csv).assign(author=authors).to_csv(reviews_csv, index=False)
    given = command("--methods", "tfidf", "head", "--group-column", "author")
    assert finetuning.main(given) == 0
    folder = tmp_path / "results" / "tiny"
    task = load_task(str(reviews_csv), group_column="author")
    test = task.rows.iloc[task.divide(0).test]
    expected, _ = pd.factorize(test["group"].to_numpy(object))
    for run in ("tfidf-seed0", "head-seed0"):
        assert read(folder, f"{run}/predictions.csv")["group"].tolist() == expected.tolist()
    assert len(set(expected)) < len(expected)
    results, kept = Results.read(folder), tmp_path / "kept"
    compact.compact(folder, kept)
    pd.testing.assert_frame_equal(Results.read(kept).comparisons, results.comparisons)


def test_finished_runs_are_kept_and_only_missing_ones_run(command, tmp_path, capsys):
    assert finetuning.main(command("--methods", "head")) == 0
    folder = tmp_path / "results" / "tiny"
    first = (folder / "head-seed0" / "run.json").stat().st_mtime_ns
    assert finetuning.main(command("--methods", "head", "lora")) == 0
    assert (folder / "head-seed0" / "run.json").stat().st_mtime_ns == first
    assert read(folder, "runs.csv")["method"].tolist() == ["head", "lora"]
    assert "Runs to do: 1; finished already: 1 (--fresh" in capsys.readouterr().out
    assert finetuning.main(command("--methods", "head", "--epochs", "1")) == 2
    assert "EPOCHS = 2, not 1" in capsys.readouterr().err
    wrong = command("--methods", "lora", "--lora-targets", "x", "--fresh")
    assert finetuning.main(wrong) == 2  # refused before --fresh deletes anything
    assert len(read(folder, "runs.csv")) == 2


def test_an_interrupt_keeps_finished_runs(command, tmp_path, capsys, monkeypatch):
    start = finetuning.start

    def interrupted(run, *given):
        if run.method.name == "lora":
            raise KeyboardInterrupt
        return start(run, *given)

    monkeypatch.setattr(finetuning, "start", interrupted)
    assert finetuning.main(command("--methods", "head", "lora")) == 130
    folder = tmp_path / "results" / "tiny"
    assert read(folder, "runs.csv")["method"].tolist() == ["head"]
    assert (folder / "report.md").exists()
    error = capsys.readouterr().err
    assert "what is finished is kept; resume with: python finetuning.py --preset quick" in error
    assert error.count("\n") == 1
