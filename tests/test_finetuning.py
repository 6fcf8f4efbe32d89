"""The whole path on tiny inputs, as a user starts it."""

import gc
import json
import re
import subprocess
import weakref

import pandas as pd
import pytest
import torch
from torch.nn.functional import cross_entropy

import finetuning
import hardware
from evaluation import plots, report
from experiment import parse, work
from experiment.setup import prepare

pytestmark = pytest.mark.usefixtures("without_figures", "on_the_cpu")


def read(folder, name):
    return pd.read_csv(folder / name)


def test_the_main_job_leaves_every_file_and_right_numbers(command, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(report, "draw", plots.draw)
    methods = ["head", "lora", "lora(rank=2, targets=('q',))"]
    assert finetuning.main(command("--methods", *methods, "--evaluations-per-epoch", "2")) == 0
    folder = tmp_path / "results" / "tiny"
    runs = read(folder, "runs.csv")
    assert runs["method"].tolist() == methods and set(runs["name"]) == {"head", "lora"}
    experiment = json.loads((folder / "experiment.json").read_text())
    assert experiment["constants"]["methods"] == methods
    assert experiment["data_set"] == "reviews.csv"  # in figures, without its folders
    assert experiment["data"]["train"] + experiment["data"]["test"] < 120
    for row, name in zip(runs.itertuples(), experiment["runs"], strict=True):
        scores = json.loads((folder / name / "run.json").read_text())["scores"]
        assert scores["test_accuracy"] == row.test_accuracy
        predictions = read(folder / name, "predictions.csv")
        logits = torch.tensor(predictions[["logit_0", "logit_1"]].to_numpy())
        labels = torch.tensor(predictions["label"].to_numpy())
        assert len(labels) == experiment["data"]["test"]
        assert row.test_accuracy == pytest.approx((logits.argmax(1) == labels).double().mean())
        assert row.test_loss == pytest.approx(cross_entropy(logits, labels).item(), rel=1e-6)
        percentage = 100 * row.trainable_parameters / row.total_parameters
        assert row.trainable_percentage == pytest.approx(percentage)
        history = read(folder / name, "history.csv")
        assert history["epoch"].tolist()[1::2] == [1, 2] and len(history) == 4
        best = history.loc[history["validation_loss"].idxmin()]
        assert best["step"] == row.best_step and best["epoch"] == row.best_epoch
        assert best["validation_loss"] == row.validation_loss
        assert history["seconds"].is_monotonic_increasing
        assert history["seconds"].iloc[-1] == row.training_seconds
    printed = capsys.readouterr()
    assert "Experiment tiny, preset quick: head, " in printed.out
    assert "Runs to do: 3" in printed.out
    assert "|" not in printed.err  # no progress bars where there is no terminal


@pytest.mark.parametrize("pooling", ["auto", "layers"])
def test_a_runs_weights_and_dropout_depend_on_its_seed_alone(pooling, command):
    """Not on a choice of the pooling, frozen blocks that run, or another rate before it."""
    given = command("--methods", "lora", "--blocks", "1", "--pooling", pooling)
    given += ["--learning-rates", "lora=0.01,0.02"]
    queue, drawn = prepare(settings := parse(vars(finetuning), given)), []
    encoder, (run,) = queue.data.encoder, queue.runs
    encoder.pretrained.new_tensors = ["classifier.weight"]  # as of an encoder without a head

    def train(model, *_):
        drawn.append([*model.trainable_parameters().values(), torch.rand(3)])

    for _ in range(2):
        with pytest.raises(FloatingPointError, match="at any learning rate"):
            work.fine_tune(run, queue.data, settings, train, None)
    assert len(drawn) == 4
    for others in zip(*drawn, strict=True):
        assert all(torch.equal(others[0], other) for other in others)


def test_finished_runs_are_kept_and_only_missing_ones_run(command, tmp_path, capsys, monkeypatch):
    assert finetuning.main(command("--methods", "lora")) == 0
    folder = tmp_path / "results" / "tiny"
    first = (folder / "lora-seed0" / "run.json").stat().st_mtime_ns
    assert finetuning.main(command("--methods", "tfidf", "--lora-rank", "2")) == 0
    assert (folder / "lora-seed0" / "run.json").stat().st_mtime_ns == first
    assert read(folder, "runs.csv")["method"].tolist() == ["lora", "tfidf"]
    monkeypatch.setattr(hardware.platform, "platform", lambda: "another machine")
    assert finetuning.main(command("--methods", "lora", "tfidf")) == 0
    assert "another machine" not in (folder / "experiment.json").read_text()
    assert "Runs to do: 0; finished already: 2 (--fresh" in capsys.readouterr().out


def test_the_version_of_the_code_is_not_that_of_a_repository_around_it(tmp_path):
    def git(*arguments):
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(("git", "-C", tmp_path, *who, *arguments), check=True, capture_output=True)

    inside = tmp_path / "package"
    inside.mkdir()
    assert hardware.commit(tmp_path) is None
    git("init")
    git("commit", "--allow-empty", "-m", "first")
    hardware.commit.cache_clear()
    assert re.fullmatch("[0-9a-f]{40}", hardware.commit(tmp_path.resolve()))
    assert hardware.commit(inside.resolve()) is None
    (tmp_path / "lora.py").write_text("A = 1\n")
    (tmp_path / "finetuning.py").write_text("SEEDS = (0,)\n")
    git("add", ".")
    git("commit", "-m", "second")
    (tmp_path / "tickets.csv").write_text("text,label\n")  # no code
    codes = []
    for name, code in (("x.csv", ""), ("lora.py", "A = 2"), ("lora.py", "A = 3"), ("own.py", "")):
        (tmp_path / name).write_text(code)
        hardware.commit.cache_clear()
        codes.append(hardware.commit(tmp_path.resolve()))
    assert len(set(codes)) == 4 and {code[:40] for code in codes} == {codes[0]}
    assert all(re.fullmatch("[+][0-9a-f]{8}", code[40:]) for code in codes[1:])
    git("add", ".")
    git("commit", "-m", "third")
    (tmp_path / "finetuning.py").write_text("SEEDS = (0, 1)\n")
    hardware.commit.cache_clear()
    assert re.fullmatch("[0-9a-f]{40}[+]", hardware.commit(tmp_path.resolve()))  # constants
    codes = []
    for seeds, loop in (("(0,)", "step()"), ("(1,)", "step()"), ("(1,)", "step(2)")):
        (tmp_path / "finetuning.py").write_text(f"SEEDS = {seeds}\n{loop}\n")
        hardware.commit.cache_clear()
        codes.append(hardware.commit(tmp_path.resolve()))
    assert re.fullmatch("[0-9a-f]{40}[+][0-9a-f]{8}", codes[0])
    assert codes[0] == codes[1] != codes[2]  # the training loop counts, constants do not


def test_a_run_that_has_ended_keeps_no_model(command, monkeypatch):
    models, train = [], finetuning.train

    def watched(model, *others):
        models.append(weakref.ref(model))
        assert [kept() for kept in models if kept()] == [model]  # no earlier run's, or rate's
        train(model, *others)

    monkeypatch.setattr(finetuning, "train", watched)
    given = command("--methods", "lora", "reft", "--seeds", "0", "1")
    rates = ["--learning-rates", "lora=0.01,0.02", "reft=0.01,0.02"]
    gc.disable()  # it would free what is only in a cycle
    try:
        assert finetuning.main([*given, *rates]) == 0
    finally:
        gc.enable()
    assert len(models) == 8
