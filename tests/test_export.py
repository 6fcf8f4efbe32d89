"""Our models in peft and transformers, and peft's in ours: the same logits, for real."""

import warnings

import peft
import pytest
import torch
from conftest import tiny, tokens
from test_checkpoint import TEXTS, checkpoint, trained  # noqa: F401
from transformers import AutoModelForSequenceClassification as Classifier
from transformers import AutoTokenizer, pipeline

from modeling import METHODS, LoRAModel, load_peft
from modeling.export import export_peft, import_peft

warnings.filterwarnings("ignore", category=UserWarning, module="peft")


def with_names(base):
    base.config.id2label = {0: "bad", 1: "good"}
    base.config.label2id = {"bad": 0, "good": 1}
    return base


@pytest.mark.parametrize("method", ["head", "lora", "bitfit", "full"])
def test_pipeline_loads_an_exported_folder(checkpoint, tmp_path, method):  # noqa: F811
    _, finetuned = checkpoint(method)
    with_names(finetuned.model.pretrained)
    before = finetuned(TEXTS)
    finetuned.export(tmp_path / "t", format="transformers")
    theirs = pipeline("text-classification", model=str(tmp_path / "t"))(TEXTS)
    for (label, probability), their in zip(before, theirs, strict=True):
        assert their["label"] == label
        assert their["score"] == pytest.approx(probability, abs=1e-6)
    assert finetuned(TEXTS) == before  # the export has left the model as it was


def test_peft_loads_an_exported_lora(family, tmp_path):
    tiny(family).float().save_pretrained(tmp_path / "base")
    base = Classifier.from_pretrained(tmp_path / "base")
    model = trained("lora", Classifier.from_pretrained(tmp_path / "base"))
    export_peft(model, tmp_path / "peft", str(tmp_path / "base"))
    ids, mask = tokens()
    expected = model(ids, mask)
    for theirs in (
        peft.PeftModel.from_pretrained(base, tmp_path / "peft"),
        peft.AutoPeftModelForSequenceClassification.from_pretrained(tmp_path / "peft"),
    ):
        logits = theirs.eval()(input_ids=ids, attention_mask=mask).logits
        assert (logits - expected).abs().max() < 1e-5  # float32


def peft_trained(base, folder, **options):
    """A LoRA of peft's own with random weights, saved by peft; returns the peft model."""
    config = peft.LoraConfig(task_type="SEQ_CLS", r=3, lora_alpha=7, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = peft.get_peft_model(base, config).eval()
    torch.manual_seed(4)
    for parameter in theirs.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.3)
    theirs.save_pretrained(folder)
    return theirs


def test_a_lora_that_peft_trained_loads_into_ours(family, tmp_path):
    layers = LoRAModel(tiny(family), targets=("o", "down")).lora_layers()
    theirs = peft_trained(tiny(family), tmp_path, target_modules=list(layers), use_rslora=True)
    ids, mask = tokens()
    expected = theirs(input_ids=ids, attention_mask=mask).logits
    ours = import_peft(tiny(family), tmp_path).eval()
    assert (ours(ids, mask) - expected).abs().max() < 1e-12


def test_load_peft_classifies(model_folder, tmp_path):
    peft_trained(tiny().float(), tmp_path, target_modules=["query", "value"])
    loaded = load_peft(tmp_path, model_folder, ["bad", "good"])
    base = Classifier.from_pretrained(model_folder)
    theirs = peft.PeftModel.from_pretrained(base, tmp_path).eval()
    batch = AutoTokenizer.from_pretrained(model_folder)(TEXTS, padding=True, return_tensors="pt")
    expected = theirs(**batch).logits.softmax(1).max(1).values.tolist()
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
def test_what_ours_cannot_express_is_said(tmp_path, options, line):
    peft_trained(tiny(), tmp_path, **options)
    with pytest.raises(ValueError, match=line):
        import_peft(tiny(), tmp_path)


@pytest.mark.parametrize(
    ("method", "format", "line"),
    [
        ("adapter", "transformers", "has no classes with adapters"),
        ("head", "peft", "only LoRA can go there"),
        ("lora", "onnx", "unknown format 'onnx'; choose from peft, transformers"),
    ],
)
def test_no_form_over_there_is_said(checkpoint, tmp_path, method, format, line):  # noqa: F811
    _, finetuned = checkpoint(method)
    assert method in METHODS
    with pytest.raises(ValueError, match=line):
        finetuned.export(tmp_path / "x", format)
