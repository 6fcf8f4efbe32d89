"""The frozen blocks: which they are, and that running them once changes nothing."""

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import randomised, tiny
from test_training import tokenised

import finetuning
from boundary import BadInput
from modeling import METHODS
from modeling.architectures import ARCHITECTURES

L = 4  # blocks
SIZES = {"adapter": {"bottleneck": 3}, "lora": {"rank": 2}, "bitfit": {}, "full": {}}

pytestmark = pytest.mark.usefixtures("without_figures", "on_the_cpu")


# ------------------------------------------------------------------ which they are


@pytest.mark.parametrize("blocks", [-1, L + 1])
@pytest.mark.parametrize("method", SIZES)
def test_blocks_that_the_model_does_not_have_are_one_line(method, blocks):
    with pytest.raises(BadInput, match=f"^blocks is {blocks}; expected 0 to {L}") as error:
        METHODS[method](tiny(layers=L), blocks=blocks)
    assert "\n" not in str(error.value)


def test_no_block_is_frozen_where_embeddings_or_shared_positions_are_trained():
    for family, shared in (("bert", "bert.embeddings"), ("mpnet", "relative_attention_bias")):
        model = METHODS["lora"](tiny(family, layers=L), blocks=1)
        for name, parameter in model.pretrained.named_parameters():
            parameter.requires_grad_(parameter.requires_grad or shared in name)
        assert model.frozen_blocks == 0


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
        tables = ("predictions.csv", "history.csv")
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
    model = METHODS["lora"](tiny(family, layers=3, **rates).float(), blocks=1)
    model = randomised(model).train()
    batch = tokenised(6).batch(np.arange(6))
    frozen = model.frozen_states(*batch.tokens)
    assert torch.equal(frozen.hidden, model.frozen_states(*batch.tokens).hidden)
    assert torch.equal(frozen.hidden, model.eval().frozen_states(*batch.tokens).hidden)
    model.train()
    for given in (None, frozen):
        one, two = (model.encode(*batch.tokens, given) for _ in range(2))
        assert not torch.equal(one, two)
