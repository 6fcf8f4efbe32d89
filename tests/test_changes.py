"""Where a model changed: checked on matrices with known spectra and known sizes."""

import pytest
import torch
from conftest import tiny, tokens
from torch import nn

from modeling import METHODS, AdapterModel, LoRAModel, adapted_layers, changes
from modeling.changes import core, effective_rank, relative_size


def matrix(*singular_values, size=6):
    torch.manual_seed(0)
    left, _ = torch.linalg.qr(torch.randn(size, size, dtype=torch.float64))
    right, _ = torch.linalg.qr(torch.randn(size, size, dtype=torch.float64))
    values = torch.zeros(size, dtype=torch.float64)
    values[: len(singular_values)] = torch.tensor(singular_values)
    return left @ values.diag() @ right


@pytest.mark.parametrize(
    ("values", "rank"),
    [((5.0,), 1), ((2.0, 2.0), 2), ((1.0, 1.0, 1.0, 1.0), 4), ((3.0, 1.0), 4 / 3**0.75), ((), 0)],
)
def test_effective_rank_of_known_spectra(values, rank):
    # For shares 3/4 and 1/4: exp(-(3/4) ln(3/4) - (1/4) ln(1/4)) = 4 / 3^(3/4).
    assert effective_rank(matrix(*values)) == pytest.approx(rank, abs=1e-9)


def test_relative_size_is_the_ratio_of_frobenius_norms():
    assert relative_size(matrix(3.0, 4.0), matrix(6.0, 8.0)) == pytest.approx(0.5)


def test_the_core_has_the_singular_values_of_the_product():
    torch.manual_seed(0)
    B, A = torch.randn(16, 4).double(), torch.randn(4, 24).double()
    values = torch.linalg.svdvals(B @ A)
    assert torch.allclose(torch.linalg.svdvals(core(B, A)), values[:4], atol=1e-12)
    assert (values[4:] < 1e-12).all()


def test_lora_rows_are_its_updates(family):
    model = LoRAModel(tiny(family), rank=2, alpha=2, targets=("o",))
    for layer in adapted_layers(model).values():  # dW = two equal directions, as large as W0
        q, _ = torch.linalg.qr(torch.randn(max(layer.linear.weight.shape), 2).double())
        layer.lora_B.data = q[: layer.lora_B.shape[0]].clone()
        layer.lora_A.data = q[: layer.lora_A.shape[1]].T.clone()
        size = layer.linear.weight.norm() / (layer.lora_B @ layer.lora_A).norm() / layer.scaling
        layer.lora_B.data *= size
    rows = changes(model, tiny(family), *tokens())
    assert [(row["block"], row["place"]) for row in rows] == [(0, "o"), (1, "o")]
    assert [row["relative_size"] for row in rows] == pytest.approx([1, 1], rel=1e-6)
    assert all(1 <= row["effective_rank"] < 2 + 1e-9 for row in rows)


def test_full_rows_are_the_differences_of_the_weights():
    model = METHODS["full"](tiny())
    path = model.architecture.projections["up"]
    model.blocks[1].get_submodule(path).weight.data *= 1.25
    rows = changes(model, tiny(), *tokens())
    assert len(rows) == 2 * 6
    for row in rows:
        moved = row["block"] == 1 and row["place"] == "up"
        assert row["relative_size"] == pytest.approx(0.25 if moved else 0, rel=1e-6)


def test_adapter_rows_are_what_it_adds_on_real_tokens_alone(family):
    model = AdapterModel(tiny(family), bottleneck=3).eval()
    for block in model.blocks:
        for path in model.architecture.sublayer_outputs:
            adapter = block.get_submodule(path).adapter
            # a(h) = W_up f(0 + b) = a constant vector: its size is known at every token.
            nn.init.zeros_(adapter.down.weight)
            nn.init.constant_(adapter.down.bias, 100.0)  # f(100) = 100
            nn.init.constant_(adapter.up.weight, 1 / 300)  # so that a(h) = (1, ..., 1)
    seen = {}

    for i, block in enumerate(model.blocks):
        for j, path in enumerate(model.architecture.sublayer_outputs):
            adapter = block.get_submodule(path).adapter
            adapter.register_forward_hook(lambda m, x, y, at=(i, j): seen.update({at: x[0]}))
    ids, mask = tokens()
    rows = changes(model, tiny(family), ids, mask)
    assert len(rows) == 4
    for row, inputs in zip(rows, seen.values(), strict=True):
        expected = (8**0.5 / inputs[mask.bool()].norm(dim=1)).mean().item()
        assert row["relative_size"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("method", ["lora", "dora", "vera", "ia3"])
def test_rows_of_adapted_layers_are_those_of_their_merged_weights(method):
    model = METHODS[method](tiny(), blocks=1)
    torch.manual_seed(2)
    for parameter in model.trainable_parameters().values():
        nn.init.normal_(parameter, std=0.3)
    rows, layers = changes(model, tiny(), *tokens()), adapted_layers(model)
    assert len(rows) == len(layers)
    matrices = [(x.merged_weight(), tiny().get_submodule(p).weight) for p, x in layers.items()]
    expected = [(relative_size(W - W0, W0), effective_rank(W - W0)) for W, W0 in matrices]
    found = [(row["relative_size"], row["effective_rank"]) for row in rows]
    assert sorted(found) == [pytest.approx(pair, abs=1e-10) for pair in sorted(expected)]


@pytest.mark.parametrize("method", ["head", "ln", "reft", "side", "bitfit"])
def test_methods_that_change_no_matrix_have_no_rows(method):
    choice = {"width": 4} if method == "side" else {}
    assert changes(METHODS[method](tiny(), **choice), tiny(), *tokens()) == []


@pytest.mark.parametrize("method", ["adapter", "lora", "dora", "vera", "ia3", "full"])
def test_rows_are_of_the_blocks_that_learn(family, method):
    model = METHODS[method](tiny(family, layers=3), blocks=1)
    rows = changes(model, tiny(family, layers=3), *tokens())
    assert rows and {row["block"] for row in rows} == {2}
    none = METHODS[method](tiny(family, layers=3), blocks=0)
    assert changes(none, tiny(family, layers=3), *tokens()) == []
