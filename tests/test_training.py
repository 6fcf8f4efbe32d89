"""The training loop, against what is known of it, and what it asks of a device."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import tiny
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode

import finetuning
import hardware
from data_utils import Split, training_batches
from experiment import Run, State, parse
from experiment.runs import STATE
from experiment.state_cache import Store, compute
from experiment.work import training_facts
from modeling import METHODS, HeadOnlyModel, Method, use_fast_attention

CPU = torch.device("cpu")


pytestmark = pytest.mark.usefixtures("on_the_cpu")


def settings(*arguments):
    return parse(vars(finetuning), list(arguments))


def changed(settings, **values):
    return settings.model_copy(update=values)


def tokenised(n, seed=0):
    random = np.random.default_rng(seed)
    lengths = random.integers(3, 12, n)
    ids = torch.from_numpy(random.integers(5, 20, lengths.sum(), dtype=np.int32))
    short, rows = np.zeros(n, bool), np.arange(n)
    return Split([""] * n, torch.arange(n) % 2, ids, lengths, 0, short, rows)


def in_training(model, options, examples, rate=0.01):
    """The state that training starts from."""
    steps = options.epochs * -(-examples // options.batch_size)
    return State(model, rate, *finetuning.optimizer_and_schedule(model, steps, options, rate))


def run_of(folder, rates=(0.03,)):
    method = Method("head", {"learning_rate": rates})
    return Run(folder / "head-seed0", method, 0, {}, {}, ["0", "1"])


def a_step(state, split, index, options):
    return finetuning.step(state, split, index, options, options.most_tokens(CPU, True)).tolist()


@pytest.mark.parametrize("method", ["adapter", "lora", "full"])
def test_a_batch_in_micro_batches_has_the_batchs_gradient(method, in_float32_on_the_cpu):
    """Uneven lengths, and a batch that the micro-batches do not divide."""
    split, index = tokenised(13), np.arange(13)
    gradients = {}
    for tokens in (13 * 12, 40):
        torch.manual_seed(0)
        model = METHODS[method](tiny().float())
        for dropout in (m for m in model.modules() if isinstance(m, torch.nn.Dropout)):
            dropout.p = 0.0
        options = changed(settings("--micro-batch-tokens", str(tokens)), gradient_clip=float("inf"))
        assert options.most_tokens(CPU, training=True) == tokens
        state = in_training(model, options, 13, rate=0.0)
        state.optimizer.zero_grad = lambda: None
        loss, correct = a_step(state, split, index, options)
        batch = split.batch(index)
        logits = model(batch.input_ids, batch.attention_mask)
        assert loss == pytest.approx(cross_entropy(logits, batch.labels).item(), rel=1e-5)
        assert correct == (logits.argmax(1) == batch.labels).sum()
        gradients[tokens] = [p.grad for p in model.trainable_parameters().values()]
    whole, parts = (torch.cat([g.flatten() for g in each]) for each in gradients.values())
    assert (whole - parts).norm() < 1e-5 * whole.norm()


@pytest.mark.parametrize("tokens", [13 * 12, 40])
def test_two_steps_end_with_the_weights_of_two_steps_of_plain_adamw(tokens, in_float32_on_the_cpu):
    """A schedule that moves, gradients that are cleared and clipped, once a step: by hand."""
    split, rate, models = tokenised(13), 0.02, []
    for _ in range(2):
        torch.manual_seed(0)
        models.append(HeadOnlyModel(tiny().float()).eval())
    model, plain = models
    options = settings("--warmup", "0", "--epochs", "4", "--micro-batch-tokens", str(tokens))
    options = changed(options, gradient_clip=0.01)
    state = in_training(model, options, 13, rate)
    for _ in range(2):
        a_step(state, split, np.arange(13), options)
    weights = list(plain.trainable_parameters().values())
    adam = torch.optim.AdamW(weights, weight_decay=0.0)
    batch = split.batch(np.arange(13))
    for number in range(2):
        adam.param_groups[0]["lr"] = rate * (4 - number) / 4
        for p in weights:
            p.data *= 1 - adam.param_groups[0]["lr"] * options.weight_decay * (p.ndim == 2)
        logits = plain(batch.input_ids, batch.attention_mask)
        gradients = torch.autograd.grad(cross_entropy(logits, batch.labels), weights)
        norm = torch.cat([g.flatten() for g in gradients]).norm()
        assert norm > options.gradient_clip
        for p, g in zip(weights, gradients, strict=True):
            p.grad = g * options.gradient_clip / norm
        adam.step()
    assert state.schedule.get_last_lr()[0] == pytest.approx(rate / 2)
    for mine, theirs in zip(model.trainable_parameters().values(), weights, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-4)  # steps of up to 0.02


def test_loss_is_the_mean_over_texts_with_an_uneven_last_batch(in_float32_on_the_cpu):
    """5 reviews in batches of 2, at a learning rate of next to nothing: checked by hand."""
    split, model = tokenised(5), HeadOnlyModel(tiny().float())
    model.pretrained.dropout.p = 0.0
    options = settings("--batch-size", "2", "--warmup", "0")
    state = in_training(model, options, 5, rate=1e-30)
    batches = training_batches(split.lengths, 2, seed=0, epoch=1)
    assert sorted(map(len, batches)) == [1, 2, 2]
    with finetuning.tqdm(disable=True) as bar:
        row = finetuning.train_part(state, split, batches, options, bar)
    logits = finetuning.predict(model, split, 10**6)
    each = -logits.log_softmax(1)[torch.arange(5), split.labels]
    assert row["train_loss"] == pytest.approx(each.sum().item() / 5, rel=1e-6)
    assert row["train_accuracy"] == (logits.argmax(1) == split.labels).sum().item() / 5
    assert row["step"] == 3 and row["epoch"] == 1


@pytest.mark.parametrize("evaluations", [1, 3, 100])
def test_every_batch_is_in_one_part_and_each_epoch_ends_with_an_evaluation(evaluations):
    options = settings("--epochs", "2", "--batch-size", "8")
    options = changed(options, evaluations_per_epoch=evaluations)
    lengths = tokenised(50).lengths
    parts = list(finetuning.parts_of_training(lengths, options, seed=3))
    assert len(parts) == 2 * min(evaluations, 7) and all(parts)
    batches = [batch.tolist() for part in parts for batch in part]
    epochs = [training_batches(lengths, 8, 3, epoch) for epoch in (1, 2)]
    assert batches == [batch.tolist() for epoch in epochs for batch in epoch]


@pytest.mark.parametrize(("patience", "epochs_run"), [(20, 12), (2, None)])
def test_the_best_point_is_kept_and_patience_ends_the_run(tmp_path, patience, epochs_run):
    """On labels of no sense, training soon makes the validation loss worse."""
    splits = {"train": tokenised(61, seed=1), "validation": tokenised(64, seed=2)}
    torch.manual_seed(0)
    model = HeadOnlyModel(tiny().float())
    options = settings("--epochs", "12", "--patience", str(patience), "--batch-size", "8")
    options, run = changed(options, evaluations_per_epoch=2), run_of(tmp_path)
    for rate in run.rates():
        finetuning.train(model, splits, rate, options, run)
    losses = [row["validation_loss"] for row in run.history]
    best = run.history[losses.index(min(losses))]
    last = run.history[-1]["epoch"]
    assert best["epoch"] < last == (epochs_run or best["epoch"] + patience)
    (final,) = {*torch.load(tmp_path / "head-seed0" / STATE)["schedule"]["_last_lr"]}
    assert final == pytest.approx(0.03 * (12 * 8 - 8 * last) / (12 * 8 - 10))  # 10 steps warm up
    run.load_best(model)
    measured, _ = finetuning.evaluate(model, splits["validation"], options)
    assert measured["loss"] == min(losses)


def test_the_learning_rate_with_the_lowest_validation_loss_is_kept(tmp_path):
    """Each rate starts anew; the tensors of the best of all evaluations are kept."""
    splits = {"train": tokenised(64, seed=1), "validation": tokenised(64, seed=2)}
    options, run = settings("--epochs", "2", "--batch-size", "8"), run_of(tmp_path, (1e-4, 0.1))
    starts, alone = [], {}
    for rate in run.rates():
        torch.manual_seed(0)
        model = HeadOnlyModel(tiny().float())
        starts.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
        finetuning.train(model, splits, rate, options, run)
        rows = [row for row in run.history if row["learning_rate"] == rate]
        alone[rate] = min(row["validation_loss"] for row in rows)
    assert all(torch.equal(starts[0], other) for other in starts[1:])
    assert len({row["learning_rate"] for row in run.history}) == 2
    worse = {"learning_rate": max(alone, key=alone.get), "epoch": 9, "validation_loss": 9.0}
    run.history.append(worse)
    facts = training_facts(run, model, splits)
    assert facts["learning_rate"] == min(alone, key=alone.get) and facts["epochs_run"] == 2
    assert facts["rates_tried"] == {repr(rate): loss for rate, loss in alone.items()}
    run.load_best(model)
    measured, _ = finetuning.evaluate(model, splits["validation"], options)
    assert measured["loss"] == min(alone.values()) == facts["scores"]["validation_loss"]


def test_patience_is_counted_in_whole_steps_of_one_learning_rate(tmp_path):
    """At 23 and 13 of 5 steps an epoch the floating-point difference is below two epochs."""
    state = in_training(HeadOnlyModel(tiny().float()), settings(), 16)
    rows = [{"step": 13, "validation_loss": 0.5}, {"step": 23, "validation_loss": 0.6}]
    state.history = [{"step": 40, "validation_loss": 0.1, "learning_rate": 0.5}]
    assert state.steps_since_best() == 0
    state.history += [row | {"learning_rate": 0.01} for row in rows]
    assert 23 / 5 - 13 / 5 < 2 and state.steps_since_best() == 2 * 5


def test_biases_and_norms_are_not_decayed_and_frozen_weights_not_optimised():
    model = METHODS["adapter"](tiny())
    given = settings("--weight-decay", "0.1")
    optimizer, _ = finetuning.optimizer_and_schedule(model, 100, given, 1)
    matrices, vectors = optimizer.param_groups
    assert matrices["weight_decay"] == 0.1 and vectors["weight_decay"] == 0
    assert all(p.ndim == 2 for p in matrices["params"])
    assert all(p.ndim == 1 for p in vectors["params"])
    both = {id(p) for p in matrices["params"] + vectors["params"]}
    assert both == {id(p) for p in model.trainable_parameters().values()}


@pytest.mark.parametrize("warmup", [0, 0.1, 0.9])
def test_the_learning_rate_rises_and_falls_as_transformers_linear_schedule(warmup):
    from transformers import get_linear_schedule_with_warmup

    options, steps = settings("--warmup", str(warmup)), 21
    ours = finetuning.optimizer_and_schedule(METHODS["head"](tiny()), steps, options, 0.5)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.5)
    schedule = get_linear_schedule_with_warmup(optimizer, round(warmup * steps), steps)
    rates = []
    for _ in range(steps + 1):
        rates.append((ours[1].get_last_lr()[0], schedule.get_last_lr()[0]))
        for mover in (ours[0], ours[1], optimizer, schedule):
            mover.step()
    assert rates[-1] == (0, 0)
    assert [a for a, _ in rates] == pytest.approx([b for _, b in rates], abs=0)


def test_a_single_step_has_the_whole_learning_rate_whatever_the_warmup():
    options = settings("--warmup", "0.9")
    _, schedule = finetuning.optimizer_and_schedule(METHODS["head"](tiny()), 1, options, 0.5)
    assert set(schedule.get_last_lr()) == {0.5}


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
    choice = {"blocks": 1} if method == "lora" else {}  # from cached output, as head-only
    model = METHODS[method](tiny(family).float(), **choice)
    use_fast_attention(model.pretrained, torch.device("cuda"))  # as on a GPU
    if method in ("head", "lora"):
        store = Store("digest", model, model.frozen_blocks)
        compute(model, split, [store], 10**6)
        split = replace(split, frozen=store.outputs(split))
    state = in_training(model, options, 12)
    state.model.train()
    with Reads() as reads:
        for index in training_batches(split.lengths, 6, 0, 1):
            finetuning.step(state, split, index, options, 10**6)
    assert reads.count == 0
    with Reads() as reads:
        torch.ones(1).item()
    assert reads.count == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU, and GPU_TESTS set")
@pytest.mark.parametrize("method", ["head", "adapter", "lora", "full"])
def test_on_a_gpu_steps_wait_for_nothing(method):
    device = torch.device("cuda")
    split, options = tokenised(12).to(device), settings("--batch-size", "6")
    pretrained = tiny("distilbert", dim=128, hidden_dim=128).float()  # a fused kernel's head size
    model = METHODS[method](pretrained).to(device)
    use_fast_attention(model.pretrained, device)
    state = in_training(model, options, 12)
    batches = training_batches(split.lengths, 6, 0, 1)
    finetuning.step(state, split, batches[0], options, 10**6)  # the first call prepares libraries
    torch.cuda.set_sync_debug_mode("error")
    try:
        for index in batches:
            finetuning.step(state, split, index, options, 10**6)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_float16_scales_the_loss_and_takes_the_same_steps(in_float32_on_the_cpu):
    """A scale of 2**16 is exact in float32, so the steps are those without it."""
    split, options = tokenised(12), settings("--batch-size", "6", "--warmup", "0")
    weights = []
    for enabled in (False, True):
        torch.manual_seed(0)
        model = METHODS["lora"](tiny().float()).eval()
        state = in_training(model, options, 12)
        state.scaler = torch.amp.GradScaler("cpu", enabled=enabled)
        for index in training_batches(split.lengths, 6, 0, 1):
            a_step(state, split, index, options)
        parameters = model.trainable_parameters().values()
        weights.append(torch.cat([p.detach().flatten() for p in parameters]))
    assert torch.allclose(weights[0], weights[1], atol=1e-6)


@pytest.mark.usefixtures("in_float32_on_the_cpu")
def test_float16_skips_a_step_whose_gradient_overflows_and_lowers_the_scale():
    split, options = tokenised(6), settings("--batch-size", "6", "--warmup", "0")
    state = in_training(METHODS["lora"](tiny().float()).eval(), options, 6)
    state.model.pretrained.classifier.weight.data *= 100  # a loss times 3e38 is infinite
    state.scaler = torch.amp.GradScaler("cpu", init_scale=3e38)
    before = [p.detach().clone() for p in state.model.trainable_parameters().values()]
    a_step(state, split, np.arange(6), options)
    assert state.scaler.get_scale() == pytest.approx(1.5e38)
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
    states[1].load_state_dict(states[0].state_dict())
    assert states[1].scaler.get_scale() == 2.0**10
    for enabled in (False, True):  # begun on a card with bf16, resumed on one without, and back
        states[0].scaler = torch.amp.GradScaler("cpu", enabled=not enabled)
        states[1].scaler = torch.amp.GradScaler("cpu", enabled=enabled)
        states[1].load_state_dict(states[0].state_dict())


def test_the_random_state_comes_back_on_the_same_kind_of_device_alone(monkeypatch):
    """CUDA's and MPS's have other sizes: the one cannot be put into the other."""
    state, put_back = in_training(METHODS["lora"](tiny().float()), settings(), 6), []

    def on(kind, value):
        gpu = SimpleNamespace(get_rng_state=lambda: value, set_rng_state=put_back.append)
        device = torch.device(kind)
        monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: device)
        monkeypatch.setattr(torch, "get_device_module", lambda *_: gpu)

    on("cuda", torch.full((16,), 7))
    saved, drawn = state.state_dict(), torch.rand(3)
    state.load_state_dict(saved)
    assert torch.equal(torch.rand(3), drawn) and put_back[0].tolist() == [7] * 16
    on("mps", torch.full((44,), 9))
    state.load_state_dict(saved)
    assert torch.equal(torch.rand(3), drawn) and len(put_back) == 1


def test_what_trains_the_head_alone_has_more_epochs():
    options = settings("--epochs", "3", "--head-epochs-factor", "10")
    for name, epochs in {"head": 30, "lora": 3, "bitfit": 3}.items():
        assert options.for_model(METHODS[name](tiny())).epochs == epochs
