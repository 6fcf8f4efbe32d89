"""The frozen blocks: which they are, and that running them once changes nothing."""

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import tiny
from test_training import a_step, in_training, settings, tokenised

import finetuning
from boundary import BadInput
from modeling import METHODS
from modeling.architectures import ARCHITECTURES

L, d, f, m, r, kv = 4, 8, 12, 3, 2, 4  # blocks, width, feed-forward, bottleneck, rank, width of k
SIZES = {"adapter": {"bottleneck": m}, "lora": {"rank": r}, "bitfit": {}, "full": {}}

pytestmark = pytest.mark.usefixtures("without_figures", "on_the_cpu")


def model_of(method, family="bert", blocks=1, pooling="first", **changes):
    """A method on a tiny model in float32, with other than its initial weights."""
    torch.manual_seed(0)
    pretrained = tiny(family, **changes).float()
    model = METHODS[method](pretrained, pooling, blocks=blocks, **SIZES[method])
    for parameter in model.trainable_parameters().values():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def methods_of(family):
    without_biases = family in ("modernbert", "llama", "qwen3")
    return [method for method in SIZES if not (method == "bitfit" and without_biases)]


def parameters_of_a_block(family):
    """In closed form: what each method trains of a block after the first."""
    adapters = 2 * (2 * d * m + m + d)
    if family == "modernbert":  # no biases; q, k, v in one matrix, the gate in another
        lora = r * (d + 3 * d) + r * (d + d)
        return {
            "adapter": adapters + 2 * d,
            "lora": lora,
            "full": 4 * d * d + 3 * d * f + 2 * d,
        }
    if family in ("llama", "qwen2", "qwen3"):
        biases = {"qwen2": d + 2 * kv}.get(family, 0)
        norms = {"qwen3": 2 * kv}.get(family, 0)  # of q and k, in a head of width 4
        return {
            "adapter": adapters + 2 * d,
            "lora": 2 * r * (d + d) + 2 * r * (d + kv),
            "bitfit": biases,
            "full": 2 * d * d + 2 * d * kv + 3 * d * f + 2 * d + biases + norms,
        }
    biases = 4 * d + f + d + 2 * d
    return {
        "adapter": adapters + 4 * d,
        "lora": 4 * r * (d + d),
        "bitfit": biases,
        "full": 4 * d * d + 2 * d * f + 2 * d + biases,
    }


# ------------------------------------------------------------------ which they are


@pytest.mark.parametrize("blocks", [0, 1, 3, L, None])
def test_counts_are_blocks_times_those_of_a_block_and_the_heads(family, blocks):
    head = 2 * d if family in ("llama", "qwen2", "qwen3") else d * d + d + 2 * d + 2
    for method in methods_of(family):
        model = METHODS[method](tiny(family, layers=L), blocks=blocks, **SIZES[method])
        trained, total = model.count_parameters()
        if method == "full" and blocks is None:
            assert trained == total
            continue
        count = L if blocks is None else blocks
        expected = head + count * parameters_of_a_block(family)[method]
        if family == "modernbert" and count == L and method != "lora":
            expected -= d  # its first block has one norm
        assert trained == expected


@pytest.mark.parametrize("blocks", [-1, L + 1])
@pytest.mark.parametrize("method", SIZES)
def test_blocks_that_the_model_does_not_have_are_one_line(method, blocks):
    with pytest.raises(BadInput, match=f"^blocks is {blocks}; expected 0 to {L}") as error:
        METHODS[method](tiny(layers=L), blocks=blocks)
    assert "\n" not in str(error.value)


def test_blocks_before_the_first_with_trainable_parameters_are_frozen(family):
    for method in methods_of(family):
        models = [METHODS[method](tiny(family, layers=L), blocks=k) for k in range(L + 1)]
        assert [model.frozen_blocks for model in models] == [L, 3, 2, 1, 0]
        assert METHODS[method](tiny(family, layers=L)).frozen_blocks == 0
    assert METHODS["head"](tiny(family, layers=L)).frozen_blocks == L


def test_no_block_is_frozen_where_embeddings_or_shared_positions_are_trained():
    for family, shared in (("bert", "bert.embeddings"), ("mpnet", "relative_attention_bias")):
        model = METHODS["lora"](tiny(family, layers=L), blocks=1)
        for name, parameter in model.pretrained.named_parameters():
            parameter.requires_grad_(parameter.requires_grad or shared in name)
        assert model.frozen_blocks == 0


def test_the_last_blocks_alone_move(family):
    split, options = tokenised(12), settings("--batch-size", "6", "--warmup", "0")
    for method in methods_of(family):
        model = model_of(method, family, layers=3)
        before = {name: p.detach().clone() for name, p in model.pretrained.named_parameters()}
        state = in_training(model, options, 12, rate=0.1)
        model.train()
        for index in split.micro_batches(np.arange(12), 40):
            a_step(state, split, index, options)
        after = dict(model.pretrained.named_parameters())
        moved = {name for name in after if not torch.equal(before[name], after[name])}
        last = f"{model.architecture.blocks}.2."
        assert all(name.startswith(last) or model.architecture.in_head(name) for name in moved)
        assert any(name.startswith(last) for name in moved)


def test_no_block_is_head_only_to_the_last_digit(command, tmp_path, cache):
    methods = ["head", *(f"{method}(blocks=0, learning_rate=0.01)" for method in SIZES)]
    assert finetuning.main(command("--methods", *methods)) == 0
    folder = tmp_path / "results" / "tiny"
    found = {path.read_bytes() for path in folder.glob("*/predictions.csv")}
    assert len(list(folder.glob("*/predictions.csv"))) == 5 and len(found) == 1
    runs = pd.read_csv(folder / "runs.csv")
    assert set(runs["frozen_blocks"]) == {2} and runs["trainable_parameters"].nunique() == 1


def test_training_from_cached_output_ends_as_training_without_which_writes_none(
    command,
    tmp_path,
    cache,
):
    methods = ["probe", "head", "adapter", "lora", "bitfit(learning_rate=0.01)", "full"]
    given = ["--methods", *methods, "--blocks", "1", "--lora-dropout", "0.1", "--patience", "1"]
    given += ["--epochs", "4", "--evaluations-per-epoch", "2"]
    assert finetuning.main(command(*given, "--no-cache", results="without")) == 0
    assert not cache.exists()
    assert finetuning.main(command(*given, "--cache", results="with")) == 0
    cached, without = (tmp_path / results / "tiny" for results in ("with", "without"))
    names = sorted(path.parent.name for path in without.glob("*/predictions.csv"))
    assert len(names) == 6
    for name in names:
        tables = ("predictions.csv", "history.csv", "steps.csv")
        for table in tables[:1] if name.startswith("probe") else tables:
            one, two = (
                pd.read_csv(folder / name / table).drop(columns="seconds", errors="ignore")
                for folder in (cached, without)
            )
            assert (one - two).abs().max().max() < 1e-5
    assert (pd.read_csv(cached / "runs.csv")["shared_seconds"] > 0).all()
    assert (pd.read_csv(without / "runs.csv")["shared_seconds"] == 0).all()


def test_frozen_blocks_have_no_dropout_in_training_and_the_others_do(family):
    rates = {rate: 0.5 for rate in ARCHITECTURES[family].encoder_dropouts}
    model = model_of("lora", family, layers=3, **rates).train()
    batch = tokenised(6).batch(np.arange(6))
    frozen = model.frozen_states(*batch.tokens)
    assert torch.equal(frozen.hidden, model.frozen_states(*batch.tokens).hidden)
    assert torch.equal(frozen.hidden, model.eval().frozen_states(*batch.tokens).hidden)
    model.train()
    for given in (None, frozen):
        one, two = (model.encode(*batch.tokens, given) for _ in range(2))
        assert not torch.equal(one, two)
