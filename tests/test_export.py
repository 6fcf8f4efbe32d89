"""Our models in peft and transformers, and peft's here: the same logits."""

import warnings

import peft
import pytest
import torch
from conftest import tiny, tokens
from test_checkpoint import LONG, TEXTS, checkpoint, trained  # noqa: F401
from transformers import AutoModelForSequenceClassification as Classifier
from transformers import AutoTokenizer, pipeline

from modeling import METHODS, LoRAModel, load_finetuned, load_peft
from modeling.export import export_peft, import_peft

warnings.filterwarnings("ignore", category=UserWarning, module="peft")


@pytest.mark.parametrize("truncation", ["left", "right"])
@pytest.mark.parametrize("method", ["head", "lora", "bitfit", "full"])
def test_pipeline_loads_an_exported_folder_and_truncates_as_in_training(
    checkpoint,  # noqa: F811
    tmp_path,
    method,
    truncation,
):
    folder, finetuned = checkpoint(method, truncation)
    before = finetuned(TEXTS)
    load_finetuned(folder).export(tmp_path / "unused", format="transformers")
    finetuned.export(tmp_path / "used", format="transformers")
    for name in ("unused", "used"):  # a tokenizer that has truncated before, and one that has not
        classify = pipeline("text-classification", model=str(tmp_path / name), truncation=True)
        assert TEXTS[0] == LONG
        for (label, probability), found in zip(before, classify(TEXTS), strict=True):
            assert found["label"] == label
            assert found["score"] == pytest.approx(probability, abs=1e-6)
    assert finetuned(TEXTS) == before  # the export has left the model as it was


@pytest.mark.parametrize("truncation", ["left", "right"])
def test_an_exported_peft_folder_truncates_as_in_training(checkpoint, tmp_path, truncation):  # noqa: F811
    _, finetuned = checkpoint("lora", truncation)
    finetuned.export(tmp_path / "p", format="peft")
    model = peft.AutoPeftModelForSequenceClassification.from_pretrained(tmp_path / "p").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "p")
    logits = model(**tokenizer(LONG, truncation=True, return_tensors="pt")).logits
    [(_, probability)] = finetuned([LONG])
    assert logits.softmax(1).max().item() == pytest.approx(probability, abs=1e-6)


def test_peft_loads_an_exported_lora(family, tmp_path):
    tiny(family).float().save_pretrained(tmp_path / "base")
    base = Classifier.from_pretrained(tmp_path / "base")
    model = trained("lora", Classifier.from_pretrained(tmp_path / "base"))
    export_peft(model, tmp_path / "peft")
    ids, mask = tokens()
    expected = model(ids, mask)
    for loaded in (
        peft.PeftModel.from_pretrained(base, tmp_path / "peft"),
        peft.AutoPeftModelForSequenceClassification.from_pretrained(tmp_path / "peft"),
    ):
        logits = loaded.eval()(input_ids=ids, attention_mask=mask).logits
        assert (logits - expected).abs().max() < 1e-5  # float32


def peft_trained(base, folder, **options):
    """A LoRA of peft's own with random weights, saved by peft; returns the peft model."""
    config = peft.LoraConfig(task_type="SEQ_CLS", r=3, lora_alpha=7, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        by_peft = peft.get_peft_model(base, config).eval()
    torch.manual_seed(4)
    for parameter in by_peft.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.3)
    by_peft.save_pretrained(folder)
    return by_peft


def test_a_lora_that_peft_trained_loads_into_ours(family, tmp_path):
    layers = LoRAModel(tiny(family), targets=("o", "down")).lora_layers()
    by_peft = peft_trained(tiny(family), tmp_path, target_modules=list(layers), use_rslora=True)
    ids, mask = tokens()
    expected = by_peft(input_ids=ids, attention_mask=mask).logits
    by_hand = import_peft(tiny(family), tmp_path).eval()
    assert (by_hand(ids, mask) - expected).abs().max() < 1e-12


def test_load_peft_classifies(model_folder, tmp_path):
    peft_trained(tiny().float(), tmp_path, target_modules=["query", "value"])
    loaded = load_peft(tmp_path, model_folder, ["bad", "good"], max_tokens=16)
    base = Classifier.from_pretrained(model_folder)
    by_peft = peft.PeftModel.from_pretrained(base, tmp_path).eval()
    how = {"padding": True, "truncation": True, "max_length": 16, "return_tensors": "pt"}
    batch = AutoTokenizer.from_pretrained(model_folder)(TEXTS, **how)
    expected = by_peft(**batch).logits.softmax(1).max(1).values.tolist()
    assert [p for _, p in loaded(TEXTS)] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            {"target_modules": ["query"], "use_dora": True},
            "use_dora = True, which is not supported",
        ),
        ({"target_modules": ["query"], "rank_pattern": {"layer.0.*": 2}}, "rank_pattern"),
        ({"target_modules": ["bert.encoder.layer.0.output.dense"]}, "in every block: see bert"),
    ],
)
def test_what_cannot_be_expressed_is_said(tmp_path, options, line):
    peft_trained(tiny(), tmp_path, **options)
    with pytest.raises(ValueError, match=line):
        import_peft(tiny(), tmp_path)


@pytest.mark.parametrize(
    ("method", "format", "line"),
    [
        ("adapter", "transformers", "no class with the weights that adapter adds"),
        ("head", "peft", "only LoRA can go there"),
        ("lora", "onnx", "unknown format 'onnx'; choose from peft, transformers"),
    ],
)
def test_a_method_that_the_other_library_lacks_is_said(checkpoint, tmp_path, method, format, line):  # noqa: F811
    _, finetuned = checkpoint(method)
    assert method in METHODS
    with pytest.raises(ValueError, match=line):
        finetuned.export(tmp_path / "x", format)
