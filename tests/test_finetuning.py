"""The whole path on tiny inputs, as a user starts it, and the loop against what is known of it."""

import json
import re
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import tiny
from huggingface_hub import constants
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode

import finetuning
import hardware
from data_utils import Split, training_batches
from evaluation import plots, report
from experiment import Run, Series, State, cached_states, parse, runs
from modeling import METHODS, HeadOnlyModel, Method, use_fast_attention

CPU = torch.device("cpu")

pytestmark = pytest.mark.usefixtures("without_figures")


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    monkeypatch.setattr(hardware, "choose_device", lambda: CPU)


@pytest.fixture
def command(model_folder, reviews_csv, tmp_path):
    def arguments(*more, results="results"):
        fixed = {
            "--experiment": "tiny",
            "--model": model_folder,
            "--dataset": reviews_csv,
            "--max-tokens": 12,
            "--blocks": "all",
            "--epochs": 2,
            "--head-epochs-factor": 1,
            "--batch-size": 16,
            "--results": tmp_path / results,
        }
        pairs = [str(part) for pair in fixed.items() for part in pair]
        return [*pairs, "--learning-rates", "head=0.01", "lora=0.01", "adapter=0.01", *more]

    return arguments


def settings(*arguments):
    return parse(vars(finetuning), list(arguments))


def changed(settings, **values):
    return settings.model_copy(update=values)


def tokenised(n, seed=0):
    random = np.random.default_rng(seed)
    lengths = random.integers(3, 12, n)
    ids = torch.from_numpy(random.integers(5, 20, lengths.sum(), dtype=np.int32))
    return Split([""] * n, torch.arange(n) % 2, ids, lengths, pad_id=0)


def in_training(model, options, examples, rate=0.01):
    """The state that training starts from, as `finetuning.start` makes it."""
    optimizer, schedule = finetuning.optimizer_and_schedule(model, examples, options, rate)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    return State(model, optimizer, schedule, scaler, hardware.Clock(CPU))


def run_of(options, method="head"):
    series = Series(Path(options.results), {}, {}, ["0", "1"])
    return Run(series, Method(method, {"learning_rate": 0.01}), 0)


def read(folder, name):
    return pd.read_csv(folder / name)


# ------------------------------------------------------------------ the whole path


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
        assert json.loads((own / "run.json").read_text())["test_accuracy"] == row.test_accuracy
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
    assert "Experiment tiny (values of quick): head, " in printed.out
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


@pytest.mark.parametrize("where", ["classify", "frozen_states"])
def test_out_of_memory_fails_its_run_with_what_to_change_and_no_other(
    command, tmp_path, capsys, monkeypatch, where
):
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "home"))  # no states are there yet

    def scarce(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(METHODS["lora"], where, scarce)
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
    assert re.match(r"failed: the (validation )?loss is nan", runs.loc["head", "status"])
    assert "learning rate 1e+15" in runs.loc["head", "status"]
    assert runs.loc["lora", "status"] == "finished"
    assert "head seed 0 failed" in capsys.readouterr().err


def test_tuning_tries_the_same_number_of_rates_for_each_method_on_validation_alone(
    command, tmp_path, capsys, monkeypatch
):
    seen = []
    predict = finetuning.predict
    monkeypatch.setattr(finetuning, "predict", lambda *a: seen.append(len(a[1])) or predict(*a))
    given = ["--methods", "tfidf", "head", "lora(rank=2)", "--tuning-rates", "3"]
    given = command("--tune", *given, "--seeds", "0", "1")
    assert finetuning.main(given) == 0
    folder = tmp_path / "results" / "tiny-tuning"
    tuning = read(folder, "tuning.csv")
    assert tuning["method"].tolist() == ["head"] * 3 + ["lora(rank=2)"] * 3
    assert set(tuning["experiment"]) == {"tiny"}
    assert tuning["learning_rate"].tolist() == [1e-3, 0.01, 0.1] * 2
    assert tuning.groupby("method")["chosen"].sum().tolist() == [1, 1]
    for _, rows in tuning.groupby("method"):
        assert rows.loc[rows["chosen"], "validation_loss"].item() == rows["validation_loss"].min()
        assert rows["at_edge"].tolist() == [True, False, True]
    data = json.loads((folder / "experiment.json").read_text())["data"]
    assert set(seen) == {data["validation"]} and "test" not in data
    printed = capsys.readouterr().out
    assert ", seeds: 0; " in printed
    lora = tuning[tuning["chosen"]].set_index("method").loc["lora(rank=2)", "learning_rate"]
    assert 'LEARNING_RATES = {"head": ' in printed  # a variant is printed as an entry of METHODS
    assert f'METHODS:\n  "lora(rank=2, learning_rate={lora:g})"\n' in printed
    edges = tuning[tuning["chosen"]]["at_edge"].sum()
    assert printed.count("at the edge of what was tried") == edges
    assert not list(folder.rglob("trained.safetensors"))
    before = (folder / "tuning.csv").read_bytes()
    assert finetuning.main(given) == 0  # nothing is done twice
    assert (folder / "tuning.csv").read_bytes() == before
    assert "to try: 0" in capsys.readouterr().out
    further = ["--methods", "head(learning_rate=1)", "--tuning-rates", "1"]
    assert finetuning.main(command("--tune", *further)) == 0  # adds to what has been tried
    again = read(folder, "tuning.csv")
    assert again["learning_rate"].tolist() == [1e-3, 0.01, 0.1, 1, 1e-3, 0.01, 0.1]
    assert again.drop(index=3)["validation_loss"].tolist() == tuning["validation_loss"].tolist()


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

    def interrupted(experiment, run):
        if run.method.name == "lora":
            raise KeyboardInterrupt
        return start(experiment, run)

    monkeypatch.setattr(finetuning, "start", interrupted)
    assert finetuning.main(command("--methods", "head", "lora")) == 130
    folder = tmp_path / "results" / "tiny"
    assert read(folder, "runs.csv")["method"].tolist() == ["head"]
    assert (folder / "report.md").exists()
    error = capsys.readouterr().err
    assert "what is finished is kept; resume with: python finetuning.py --experiment" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("moment", ["before its state is written", "after it"])
def test_tensorboard_shows_the_numbers_of_the_tables(command, tmp_path, monkeypatch, moment):
    """Of a run with a dozen evaluations, killed at the fourth."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    given = command("--methods", "lora", "--tensorboard", "--evaluations-per-epoch", "6")
    write_state, calls = runs.write_state, []

    def write_or_stop(*what):
        calls.append(what)
        if len(calls) != 4 or moment == "after it":
            write_state(*what)
        if len(calls) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(runs, "write_state", write_or_stop)
    assert (finetuning.main(given), finetuning.main(given)) == (130, 0)
    own = tmp_path / "results" / "tiny" / "lora-seed0"
    events = accumulator.EventAccumulator(str(own))
    events.Reload()
    steps, history = read(own, "steps.csv"), read(own, "history.csv")
    for table, names in (
        (steps, ("loss", "learning_rate", "gradient_norm")),
        (history, ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")),
    ):
        for name in names:
            tag = f"step/{name}" if table is steps else name.replace("_", "/")
            points = events.Scalars(tag)
            assert [point.step for point in points] == table["step"].tolist()
            assert [point.value for point in points] == pytest.approx(table[name].tolist())


def test_tensorboard_that_is_not_installed_is_one_line(command, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tensorboard", None)
    assert finetuning.main(command("--methods", "lora", "--tensorboard")) == 2
    error = capsys.readouterr().err
    assert "pip install tensorboard" in error and error.count("\n") == 1
    assert not (tmp_path / "results" / "tiny").exists()


# ------------------------------------------------------------------ the loop


@pytest.mark.parametrize("method", ["adapter", "lora", "full"])
def test_a_batch_in_micro_batches_has_the_batchs_gradient(method, monkeypatch):
    """Uneven lengths, and a batch that the micro-batches do not divide."""
    monkeypatch.setattr(hardware, "compute_type", lambda device: torch.float32)
    split, index = tokenised(13), np.arange(13)
    gradients = {}
    for tokens in (13 * 12, 40):
        torch.manual_seed(0)
        model = METHODS[method](tiny().float())
        for dropout in (m for m in model.modules() if isinstance(m, torch.nn.Dropout)):
            dropout.p = 0.0
        options = changed(settings("--micro-batch-tokens", str(tokens)), gradient_clip=float("inf"))
        state = in_training(model, options, 13, rate=0.0)
        state.optimizer.zero_grad = lambda: None
        loss, norm, correct = finetuning.step(state, split, index, options).tolist()
        batch = split.batch(index)
        logits = model(batch.input_ids, batch.attention_mask)
        assert loss == pytest.approx(cross_entropy(logits, batch.labels).item(), rel=1e-5)
        assert correct == (logits.argmax(1) == batch.labels).sum()
        gradients[tokens] = [p.grad for p in model.trainable_parameters().values()]
        own = torch.cat([g.flatten() for g in gradients[tokens]]).norm().item()
        assert norm == pytest.approx(own, rel=1e-5)
    whole, parts = (torch.cat([g.flatten() for g in each]) for each in gradients.values())
    assert (whole - parts).norm() < 1e-5 * whole.norm()


def test_loss_is_the_mean_over_reviews_with_an_uneven_last_batch(monkeypatch):
    """5 reviews in batches of 2, at a learning rate of next to nothing: checked by hand."""
    monkeypatch.setattr(hardware, "compute_type", lambda device: torch.float32)
    split, model = tokenised(5), HeadOnlyModel(tiny().float())
    model.pretrained.dropout.p = 0.0
    options = settings("--batch-size", "2", "--warmup", "0")
    state = in_training(model, options, 5, rate=1e-30)
    batches = training_batches(split.lengths, 2, seed=0, epoch=1)
    assert sorted(map(len, batches)) == [1, 2, 2]
    with finetuning.tqdm(disable=True) as bar:
        row = finetuning.train_part(state, split, batches, options, bar)
    logits = finetuning.predict(model, split, options)
    each = -logits.log_softmax(1)[torch.arange(5), split.labels]
    assert row["train_loss"] == pytest.approx(each.sum().item() / 5, rel=1e-6)
    assert row["train_accuracy"] == (logits.argmax(1) == split.labels).sum().item() / 5
    assert row["step"] == 3 and row["epoch"] == 1
    for step, index in zip(state.steps, batches, strict=True):
        assert step["loss"] == pytest.approx(each[index].mean().item(), rel=1e-6)


@pytest.mark.parametrize("evaluations", [1, 3, 4, 100])
def test_every_batch_is_in_one_part_and_each_epoch_ends_with_an_evaluation(evaluations):
    options = settings(
        "--evaluations-per-epoch", str(evaluations), "--epochs", "2", "--batch-size", "8"
    )
    lengths = tokenised(50).lengths
    parts = list(finetuning.parts_of_training(lengths, options, seed=3))
    assert len(parts) == 2 * min(evaluations, 7) and all(parts)
    batches = [batch.tolist() for part in parts for batch in part]
    epochs = [training_batches(lengths, 8, 3, epoch) for epoch in (1, 2)]
    assert batches == [batch.tolist() for epoch in epochs for batch in epoch]


@pytest.mark.parametrize(("patience", "epochs_run"), [(20, 12), (2, None)])
def test_the_best_point_is_kept_and_patience_ends_the_run(tmp_path, patience, epochs_run):
    """On labels of no sense, training soon makes the validation loss worse."""
    splits = {"train": tokenised(64, seed=1), "validation": tokenised(64, seed=2)}
    torch.manual_seed(0)
    model = HeadOnlyModel(tiny().float())
    options = settings("--epochs", "12", "--patience", str(patience), "--batch-size", "8")
    options = changed(options, results=str(tmp_path), evaluations_per_epoch=2)
    state = in_training(model, options, 64, rate=0.03)
    finetuning.train(state, splits, run_of(options), options)
    losses = [row["validation_loss"] for row in state.history]
    best = state.history[losses.index(min(losses))]
    last = state.history[-1]["epoch"]
    assert best["epoch"] < last == (epochs_run or best["epoch"] + patience)
    logits = finetuning.predict(model, splits["validation"], options)
    assert finetuning.score(logits, splits["validation"])[0] == min(losses)


def test_a_validation_loss_that_is_not_finite_fails_the_run(tmp_path):
    splits = {"train": tokenised(16, seed=1), "validation": tokenised(16, seed=2)}
    splits["train"].token_ids[splits["train"].token_ids == 19] = 18
    model, options = HeadOnlyModel(tiny().float()), changed(settings(), results=str(tmp_path))
    model.pretrained.get_input_embeddings().weight[19] = float("nan")
    state = in_training(model, options, 16)
    with pytest.raises(FloatingPointError, match="validation loss is nan after step 1"):
        finetuning.train(state, splits, run_of(options), options)


def test_biases_and_norms_are_not_decayed_and_frozen_weights_not_optimised():
    model = METHODS["adapter"](tiny())
    optimizer, _ = finetuning.optimizer_and_schedule(
        model, 100, settings("--weight-decay", "0.1"), 1
    )
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
    ours = finetuning.optimizer_and_schedule(METHODS["head"](tiny()), 50, options, 0.5)
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


# ------------------------------------------------------------------ the device


class Reads(TorchDispatchMode):
    """Counts how often a tensor's value is read, which on a GPU waits for the device."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten._local_scalar_dense.default:
            self.count += 1
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("method", ["head", "adapter", "lora", "full"])
def test_steps_read_no_value_from_the_device(method, family):
    """`.item()`, `float()`, `if tensor`: each would wait for the device."""
    if family in ("deberta-v2", "mpnet") and method != "head":
        pytest.skip("transformers' own code of this family reads values in its attention")
    split, options = tokenised(12), settings("--batch-size", "6")
    choice = {"blocks": 1} if method == "lora" else {}  # from stored states, as head-only
    model = METHODS[method](tiny(family).float(), **choice)
    use_fast_attention(model.pretrained, torch.device("cuda"))  # as on a GPU
    split = cached_states(model, {"train": split}, options)[0]["train"]
    assert (split.frozen is not None) == (method in ("head", "lora"))
    state = in_training(model, options, 12)
    state.model.train()
    with Reads() as reads:
        for index in training_batches(split.lengths, 6, 0, 1):
            finetuning.step(state, split, index, options)
    assert reads.count == 0
    with Reads() as reads:
        torch.ones(1).item()
    assert reads.count == 1


def test_float64_is_computed_on_the_cpu_alone():
    """Apple's devices have none."""
    root = Path(finetuning.__file__).parent
    parts = (root.glob(part) for part in ("finetuning.py", "experiment/*.py", "modeling/*.py"))
    for path in chain.from_iterable(parts):
        for line in path.read_text().splitlines():
            assert ".double()" not in line.replace(".cpu().double()", ""), f"{path}: {line}"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("method", ["head", "adapter", "lora", "full"])
def test_on_a_gpu_steps_and_predictions_wait_for_nothing(method):
    device = torch.device("cuda")
    split, options = tokenised(12).to(device), settings("--batch-size", "6")
    model = METHODS[method](tiny().float()).to(device)
    use_fast_attention(model.pretrained, device)
    optimizer, schedule = finetuning.optimizer_and_schedule(model, 12, options, 0.01)
    scaler = torch.amp.GradScaler("cuda", enabled=False)
    state = State(model, optimizer, schedule, scaler, hardware.Clock(device))
    batches = training_batches(split.lengths, 6, 0, 1)
    finetuning.step(state, split, batches[0], options)  # the first call prepares libraries
    torch.cuda.set_sync_debug_mode("error")
    try:
        for index in batches:
            finetuning.step(state, split, index, options)
            state.schedule.get_last_lr()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_float16_scales_the_loss_and_takes_the_same_steps(monkeypatch):
    """A scale of 2**16 is exact in float32, so the steps are those without it."""
    monkeypatch.setattr(hardware, "compute_type", lambda device: torch.float32)
    split, options = tokenised(12), settings("--batch-size", "6", "--warmup", "0")
    weights = []
    for enabled in (False, True):
        torch.manual_seed(0)
        model = METHODS["lora"](tiny().float()).eval()
        state = in_training(model, options, 12)
        state.scaler = torch.amp.GradScaler("cpu", enabled=enabled)
        for index in training_batches(split.lengths, 6, 0, 1):
            loss, norm, _ = finetuning.step(state, split, index, options).tolist()
        parameters = model.trainable_parameters().values()
        weights.append(torch.cat([p.detach().flatten() for p in parameters]))
    assert torch.allclose(weights[0], weights[1], atol=1e-6)


def test_float16_skips_a_step_whose_gradient_overflows_and_lowers_the_scale(monkeypatch):
    monkeypatch.setattr(hardware, "compute_type", lambda device: torch.float32)
    split, options = tokenised(6), settings("--batch-size", "6", "--warmup", "0")
    state = in_training(METHODS["lora"](tiny().float()).eval(), options, 6)
    state.model.pretrained.classifier.weight.data *= 100  # a loss times 3e38 is infinite
    state.scaler = torch.amp.GradScaler("cpu", init_scale=3e38)
    before = [p.detach().clone() for p in state.model.trainable_parameters().values()]
    _, norm, _ = finetuning.step(state, split, np.arange(6), options).tolist()
    assert not np.isfinite(norm) and state.scaler.get_scale() == pytest.approx(1.5e38)
    after = state.model.trainable_parameters().values()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_cards_without_bf16_compute_in_float16(monkeypatch):
    cuda = torch.device("cuda")
    for has_bf16, expected in ((True, torch.bfloat16), (False, torch.float16)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda has=has_bf16, **_: has)
        assert hardware.compute_type(cuda) is expected


def test_the_scale_of_the_loss_comes_back_with_the_state():
    options = settings()
    states = [in_training(METHODS["lora"](tiny().float()), options, 6) for _ in range(2)]
    for state, scale in zip(states, (2.0**10, 2.0**16), strict=True):
        state.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    states[0].history = [{"step": 1, "epoch": 1.0, "validation_loss": 0.5}]
    states[1].load_state_dict(states[0].state_dict())
    assert states[1].scaler.get_scale() == 2.0**10


def test_what_trains_the_head_alone_has_more_epochs():
    options = settings("--epochs", "3", "--head-epochs-factor", "10")
    epochs = {
        name: finetuning.settings_for(METHODS[name](tiny()), options).epochs
        for name in ("head", "lora", "bitfit", "side")
    }
    assert epochs == {"head": 30, "lora": 3, "bitfit": 3, "side": 3}
