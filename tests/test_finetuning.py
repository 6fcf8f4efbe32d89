"""The whole path on tiny inputs, as a user starts it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tiny
from torch.nn.functional import cross_entropy

import data_utils
import finetuning
import settings as settings_module
from data_utils.batches import TokenisedReviews
from evaluation import machine
from evaluation.records import read_csv
from modeling import METHODS, HeadOnlyModel

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    monkeypatch.setattr(machine, "choose_device", lambda: CPU)


@pytest.fixture
def command(model_folder, reviews_csv, tmp_path):
    def arguments(*more, results="results"):
        fixed = {
            "--experiment": "tiny",
            "--model": model_folder,
            "--dataset": reviews_csv,
            "--max-tokens": 12,
            "--epochs": 2,
            "--batch-size": 16,
            "--results": tmp_path / results,
        }
        pairs = [str(part) for pair in fixed.items() for part in pair]
        return [*pairs, "--learning-rates", "head=0.01", "lora=0.01", "adapter=0.01", *more]

    return arguments


def settings(*arguments):
    return settings_module.parse(vars(finetuning), list(arguments))


def tokenised(n, seed=0):
    random = np.random.default_rng(seed)
    ids = [torch.from_numpy(random.integers(5, 20, random.integers(3, 12))) for _ in range(n)]
    return TokenisedReviews(ids, torch.arange(n) % 2, pad_id=0)


def test_the_main_job_leaves_every_file_and_the_right_numbers(command, tmp_path, capsys):
    assert finetuning.main(command("--methods", "head", "adapter", "lora", "full")) == 0
    folder = tmp_path / "results" / "tiny"
    runs = read_csv(folder / "runs.csv")
    assert runs["method"].tolist() == ["head", "adapter", "lora", "full"]
    experiment = json.loads((folder / "experiment.json").read_text())
    assert experiment["data"]["train"] + experiment["data"]["test"] < 120
    for row in runs.itertuples():
        predictions = read_csv(folder / "predictions" / f"{row.method}-seed0.csv")
        logits = torch.tensor(predictions[["logit_0", "logit_1"]].to_numpy())
        labels = torch.tensor(predictions["label"].to_numpy())
        assert len(labels) == experiment["data"]["test"]
        assert row.test_accuracy == pytest.approx((logits.argmax(1) == labels).double().mean())
        assert row.test_loss == pytest.approx(cross_entropy(logits, labels).item(), rel=1e-6)
        percentage = 100 * row.trainable_parameters / row.total_parameters
        assert row.trainable_percentage == pytest.approx(percentage)
        file = folder / "checkpoints" / f"{row.method}-seed0" / "trained.safetensors"
        assert row.trained_bytes == file.stat().st_size
    history = read_csv(folder / "history.csv")
    kept = history.loc[history.groupby("method", sort=False)["validation_loss"].idxmin()]
    assert kept["epoch"].tolist() == runs["best_epoch"].tolist()
    assert kept["validation_loss"].tolist() == pytest.approx(runs["validation_loss"], rel=1e-6)
    changes = read_csv(folder / "changes.csv")
    assert set(changes["method"]) == {"adapter", "lora", "full"}
    assert (changes["relative_size"] > 0).all()
    assert len(list(folder.glob("*.png"))) == 11 + 3
    printed = capsys.readouterr()
    assert "Experiment tiny" in printed.out and "roughly" in printed.out
    assert "|" not in printed.err  # no progress bars where there is no terminal


def test_same_seed_gives_the_same_numbers_to_the_last_digit(command, tmp_path):
    for results in ("one", "two"):
        assert finetuning.main(command("--lora-dropout", "0.1", results=results)) == 0
    one, two = tmp_path / "one" / "tiny", tmp_path / "two" / "tiny"
    for method in ("head", "adapter", "lora"):
        name = f"predictions/{method}-seed0.csv"
        assert (one / name).read_bytes() == (two / name).read_bytes()
    timeless = read_csv(one / "history.csv").drop(columns="seconds")
    assert timeless.equals(read_csv(two / "history.csv").drop(columns="seconds"))
    assert finetuning.main(command("--seeds", "1", "--methods", "lora", results="three")) == 0
    other = tmp_path / "three" / "tiny" / "predictions" / "lora-seed1.csv"
    assert other.read_bytes() != (one / "predictions" / "lora-seed0.csv").read_bytes()


def test_out_of_memory_fails_its_run_with_what_to_change_and_no_other(
    command, tmp_path, capsys, monkeypatch
):
    encode_batch = finetuning.encode_batch

    def scarce(model, *arguments):
        if type(model) is METHODS["lora"]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return encode_batch(model, *arguments)

    monkeypatch.setattr(finetuning, "encode_batch", scarce)
    assert finetuning.main(command("--methods", "lora", "adapter")) == 1
    runs = read_csv(tmp_path / "results" / "tiny" / "runs.csv").set_index("method")
    assert runs.loc["adapter", "status"] == "finished"
    expected = "out of memory with BATCH_SIZE 16, ACCUMULATE 1, MAX_TOKENS 12; raise ACCUMULATE"
    assert expected in runs.loc["lora", "status"]
    assert expected in capsys.readouterr().err


def test_tuning_tries_the_same_number_of_rates_for_each_method_on_validation_alone(
    command, tmp_path, capsys, monkeypatch
):
    seen = []
    predict = finetuning.predict
    monkeypatch.setattr(finetuning, "predict", lambda *a: seen.append(len(a[1])) or predict(*a))
    given = command("--tune", "--methods", "head", "lora", "--tuning-rates", "3", "--epochs", "1")
    assert finetuning.main(given) == 0
    folder = tmp_path / "results" / "tiny-tuning"
    tuning = read_csv(folder / "tuning.csv")
    assert tuning["method"].tolist() == ["head"] * 3 + ["lora"] * 3 + ["full"] * 3
    assert tuning["learning_rate"].tolist() == [1e-3, 0.01, 0.1] * 2 + [1e-5, 1e-4, 1e-3]
    assert tuning.groupby("method")["chosen"].sum().tolist() == [1, 1, 1]
    for _, rows in tuning.groupby("method"):
        assert rows.loc[rows["chosen"], "validation_loss"].item() == rows["validation_loss"].min()
        assert rows["at_edge"].tolist() == [True, False, True]
    validation = json.loads((folder / "experiment.json").read_text())["data"]["validation"]
    assert set(seen) == {validation}
    printed = capsys.readouterr().out
    assert 'LEARNING_RATES = {"head": ' in printed
    edges = tuning[tuning["chosen"]]["at_edge"].sum()
    assert printed.count("at the edge of what was tried") == edges
    assert not list((folder / "checkpoints").iterdir())
    before = (folder / "tuning.csv").read_bytes()
    assert finetuning.main(given) == 0  # nothing is done twice
    assert (folder / "tuning.csv").read_bytes() == before
    assert "to try: 0" in capsys.readouterr().out


def test_a_disk_without_room_is_refused_before_training(command, tmp_path, capsys, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2**20))
    assert finetuning.main(command("--methods", "head")) == 2
    assert "1 MiB free, and this experiment needs about 50" in capsys.readouterr().err
    assert not (tmp_path / "results" / "tiny" / "runs.csv").exists()


def test_finished_runs_are_kept_and_only_missing_ones_run(command, tmp_path, capsys):
    assert finetuning.main(command("--methods", "head")) == 0
    runs = tmp_path / "results" / "tiny" / "runs.csv"
    first = read_csv(runs)
    assert finetuning.main(command("--methods", "head", "lora")) == 0
    assert read_csv(runs).head(1).equals(first)
    assert "finished already: 1 (--fresh" in capsys.readouterr().out
    assert finetuning.main(command("--methods", "head", "--epochs", "1")) == 2
    assert "EPOCHS = 2, not 1" in capsys.readouterr().err
    wrong = command("--methods", "lora", "--lora-targets", "x", "--fresh")
    assert finetuning.main(wrong) == 2  # refused before --fresh deletes anything
    assert len(read_csv(runs)) == 2


def test_a_loss_that_is_not_finite_stops_its_run_and_no_other(command, tmp_path, capsys):
    rates = ["--learning-rates", "head=1e15", "lora=0.01"]
    assert finetuning.main(command("--methods", "head", "lora", *rates)) == 1
    runs = read_csv(tmp_path / "results" / "tiny" / "runs.csv").set_index("method")
    assert runs.loc["head", "status"].startswith("failed: the loss is nan at step ")
    assert "learning rate 1e+15" in runs.loc["head", "status"]
    assert runs.loc["lora", "status"] == "finished"
    assert "head seed 0 failed" in capsys.readouterr().err


@pytest.mark.parametrize("method", ["adapter", "lora", "full"])
def test_a_batch_in_pieces_has_the_batchs_gradient(method, monkeypatch):
    """Uneven lengths, and a batch that the pieces do not divide."""
    monkeypatch.setattr(machine, "compute_type", lambda device: torch.float32)
    reviews, index = tokenised(13), np.arange(13)
    gradients = {}
    for pieces in (1, 4):
        torch.manual_seed(0)
        model = METHODS[method](tiny().float())
        for dropout in (m for m in model.modules() if isinstance(m, torch.nn.Dropout)):
            dropout.p = 0.0
        constants = settings(
            "--accumulate", str(pieces), "--batch-size", "13", "--max-tokens", "12"
        )
        constants.gradient_clip = float("inf")
        optimizer, schedule = finetuning.optimisation(model, 13, constants, rate=0.0)
        optimizer.zero_grad = lambda: None
        loss, _ = finetuning.train_epoch(
            model, reviews, None, [index], optimizer, schedule, constants
        )
        by_hand = cross_entropy(model(*reviews.batch(index)), reviews.labels)
        assert loss == pytest.approx(by_hand.item(), rel=1e-5)
        gradients[pieces] = [p.grad for p in model.trainable_parameters().values()]
    whole, parts = (torch.cat([g.flatten() for g in gradients[k]]) for k in (1, 4))
    assert (whole - parts).norm() < 1e-5 * whole.norm()


def test_a_validation_loss_that_is_not_finite_fails_the_run(tmp_path):
    reviews = {"train": tokenised(16, seed=1), "validation": tokenised(16, seed=2)}
    model = HeadOnlyModel(tiny().float())
    states = {split: finetuning.encode(model, r, settings(), CPU) for split, r in reviews.items()}
    states["validation"][3] = float("nan")
    clock, best = machine.Clock(CPU), tmp_path / "trained.safetensors"
    with pytest.raises(FloatingPointError, match="validation loss is nan after epoch 1"):
        finetuning.train(model, reviews, states, settings(), 0.01, 0, clock, best)


def test_an_interrupt_keeps_finished_runs(command, tmp_path, capsys, monkeypatch):
    build = finetuning.build

    def interrupted(method, pretrained, settings):
        if method == "lora" and pretrained.device == CPU:  # the run, not the check before it
            raise KeyboardInterrupt
        return build(method, pretrained, settings)

    monkeypatch.setattr(finetuning, "build", interrupted)
    assert finetuning.main(command("--methods", "head", "lora")) == 130
    folder = tmp_path / "results" / "tiny"
    assert read_csv(folder / "runs.csv")["method"].tolist() == ["head"]
    assert (folder / "test_accuracy.png").exists()
    error = capsys.readouterr().err
    assert "finished runs and epochs are kept; go on with: python finetuning.py" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["--methods", "lorra"],
            "unknown method 'lorra'; choose from head, adapter, lora, bitfit, full",
        ),
        (["--max-tokens", "19"], "has 18 positions; set it to 18 or less"),
        (["--epochs", "many"], "argument --epochs: 'many' is no number; see"),
        (["--epochs", "2.5"], "EPOCHS is 2.5; expected a whole number, 1 or more"),
        (["--seeds", "1", "1"], "SEEDS is [1, 1]; expected whole numbers, 0 or more, each once"),
        (["--epoch-count", "3"], "unrecognized arguments: --epoch-count 3; see"),
        (["--epochs", "0"], "EPOCHS is 0; expected a whole number, 1 or more"),
        (["--warmup", "1"], "WARMUP is 1; expected a number from 0 to below 1"),
        (["--learning-rates", "lora=-1"], "LEARNING_RATES['lora'] is -1; expected"),
        (["--model", "/nowhere/bert"], "the model /nowhere/bert cannot be loaded"),
        (["--dataset", "nowhere.csv"], "nowhere.csv does not exist"),
        (["--lora-targets", "q", "w"], "LoRA targets are ['q', 'w']; choose from"),
        (["--experiment", "a/b"], "EXPERIMENT is 'a/b'; expected a name for a folder"),
    ],
)
def test_bad_input_is_one_line_and_exit_status_2(command, capsys, arguments, line):
    assert finetuning.main(command(*arguments)) == 2
    error = capsys.readouterr().err
    assert line in error
    assert error.startswith("error: ") and error.count("\n") == 1


def test_loss_is_the_mean_over_reviews_with_an_uneven_last_batch():
    """5 reviews in batches of 2, at a learning rate of next to nothing: checked by hand."""
    reviews, model = tokenised(5), HeadOnlyModel(tiny().float())
    model.pretrained.dropout.p = 0.0
    options = settings("--batch-size", "2", "--warmup", "0")
    states = finetuning.encode(model, reviews, options, CPU)
    batches = data_utils.training_batches(reviews.lengths, 2, seed=0, epoch=1)
    assert sorted(map(len, batches)) == [1, 2, 2]
    optimizer, schedule = finetuning.optimisation(model, 5, options, rate=1e-30)
    loss, accuracy = finetuning.train_epoch(
        model, reviews, states, batches, optimizer, schedule, options
    )
    logits = model.classify(states)
    each = -logits.log_softmax(1)[torch.arange(5), reviews.labels]
    assert loss == pytest.approx(each.sum().item() / 5, rel=1e-6)
    assert accuracy == (logits.argmax(1) == reviews.labels).sum().item() / 5


@pytest.mark.parametrize(("patience", "epochs_run"), [(20, 12), (2, None)])
def test_the_best_epoch_is_kept_and_patience_ends_the_run(tmp_path, patience, epochs_run):
    """On labels of no sense, training soon makes the validation loss worse."""
    reviews = {"train": tokenised(64, seed=1), "validation": tokenised(64, seed=2)}
    torch.manual_seed(0)
    model = HeadOnlyModel(tiny().float())
    options = settings("--epochs", "12", "--patience", str(patience), "--batch-size", "8")
    states = {split: finetuning.encode(model, r, options, CPU) for split, r in reviews.items()}
    clock, best = machine.Clock(CPU), tmp_path / "run" / "trained.safetensors"
    history = finetuning.train(model, reviews, states, options, 0.03, 0, clock, best)
    losses = [row["validation_loss"] for row in history]
    kept = losses.index(min(losses)) + 1
    assert kept < len(history) == (epochs_run or kept + patience)
    logits = finetuning.predict(model, reviews["validation"], states["validation"], options, CPU)
    assert finetuning.score(logits, reviews["validation"].labels)[0] == min(losses)


def test_states_of_a_frozen_encoder_are_those_it_would_give_each_time(family):
    reviews, model = tokenised(23), HeadOnlyModel(tiny(family).float()).eval()
    states = finetuning.encode(model, reviews, settings("--batch-size", "4"), CPU)
    for i in range(23):
        ids, mask = reviews.batch(np.array([i]))
        with torch.no_grad():
            alone = model.encode(ids, mask)
        # bf16, where the machine has it, rounds to about three digits.
        assert torch.allclose(states[i], alone[0], atol=0.1)
    assert states.dtype == torch.float32


def test_biases_and_norms_are_not_decayed_and_frozen_weights_not_optimised():
    model = METHODS["adapter"](tiny())
    optimizer, schedule = finetuning.optimisation(model, 100, settings("--weight-decay", "0.1"), 1)
    matrices, vectors = optimizer.param_groups
    assert matrices["weight_decay"] == 0.1 and vectors["weight_decay"] == 0
    assert all(p.ndim == 2 for p in matrices["params"])
    assert all(p.ndim == 1 for p in vectors["params"])
    both = {id(p) for p in matrices["params"] + vectors["params"]}
    assert both == {id(p) for p in model.trainable_parameters().values()}


@pytest.mark.parametrize("warmup", [0, 0.1, 0.9])
def test_the_learning_rate_rises_and_falls_as_transformers_linear_schedule(warmup):
    from transformers import get_linear_schedule_with_warmup

    options = settings("--epochs", "3", "--batch-size", "8", "--warmup", str(warmup))
    ours = finetuning.optimisation(METHODS["head"](tiny()), 50, options, 0.5)
    steps = 3 * 7
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.5)
    schedule = get_linear_schedule_with_warmup(optimizer, round(warmup * steps), steps)
    rates = []
    for _ in range(steps + 1):
        rates.append((ours[1].get_last_lr()[0], schedule.get_last_lr()[0]))
        for mover in (ours[0], ours[1], optimizer, schedule):
            mover.step()
    assert rates[-1] == (0, 0)
    assert [a for a, _ in rates] == pytest.approx([b for _, b in rates], abs=0)


def test_constants_have_two_columns_and_the_command_line_goes_before_both(monkeypatch):
    quick, full = settings("--experiment", "quick"), settings("--experiment", "full")
    assert quick.model == data_utils.EMBEDDED and full.model.startswith("distilbert/")
    assert full.seeds == (0, 1, 2) and full.max_tokens == 512 and full.train_examples is None
    assert settings().experiment == ("full" if torch.cuda.is_available() else "quick")
    given = settings("--train-examples", "all", "--seeds", "4", "5", "--learning-rates", "lora=0.5")
    assert given.train_examples is None and list(given.seeds) == [4, 5]
    assert given.learning_rates["lora"] == 0.5
    assert given.learning_rates["head"] == quick.learning_rates["head"]
    monkeypatch.setattr(finetuning, "EPOCHS", 9)
    assert settings("--experiment", "full").epochs == 9


def test_command_line_help_names_every_constant():
    path = Path(finetuning.__file__)
    done = subprocess.run(
        [sys.executable, str(path), "--help"], capture_output=True, text=True, check=True
    )
    constants = [name for name in vars(finetuning) if name.isupper()]
    assert len(constants) >= 25
    assert all("--" + name.lower().replace("_", "-") in done.stdout for name in constants)
