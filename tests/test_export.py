"""Our models in peft and transformers, and peft's here: the same logits."""

import json
import shutil
import warnings

import peft
import pytest
import torch
from conftest import tiny, tokens
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file
from test_checkpoint import LONG, TEXTS, checkpoint, trained  # noqa: F401
from transformers import AutoModelForSequenceClassification as Classifier
from transformers import AutoTokenizer, pipeline

from boundary import BadInput
from modeling import (
    METHODS,
    LoRAModel,
    adapted_layers,
    load_config,
    load_finetuned,
    load_peft,
    load_pretrained,
    merge,
)
from modeling.architectures import ARCHITECTURES
from modeling.export import (
    PREFIX,
    READ_OR_HARMLESS,
    SUPPORTED,
    TENSORS,
    export_peft,
    export_transformers,
    import_peft,
)

warnings.filterwarnings("ignore", category=UserWarning, module="peft")
pytestmark = pytest.mark.usefixtures("in_float32_on_the_cpu")


@pytest.mark.parametrize(("method", "truncation"), [("lora", "left"), ("full", "right")])
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


def test_a_lora_of_the_last_block_goes_to_peft_and_to_transformers(family, tmp_path):
    tiny(family, layers=3).float().save_pretrained(tmp_path / "base")
    model = trained("lora", Classifier.from_pretrained(tmp_path / "base"), blocks=1)
    export_peft(model, tmp_path / "peft")
    export_transformers(model, tmp_path / "plain")
    ids, mask = tokens()
    expected = model(ids, mask)
    by_peft = peft.AutoPeftModelForSequenceClassification.from_pretrained(tmp_path / "peft").eval()
    adapted = [name for name, _ in by_peft.named_parameters() if ".lora_A." in name]
    last = f"{model.architecture.blocks}.2."
    assert len(adapted) == len(adapted_layers(model)) and all(last in name for name in adapted)
    plain = Classifier.from_pretrained(tmp_path / "plain").eval()
    for loaded in (by_peft, plain):
        logits = loaded(input_ids=ids, attention_mask=mask).logits
        assert (logits - expected).abs().max() < 1e-5  # float32
    again = import_peft(Classifier.from_pretrained(tmp_path / "base"), tmp_path / "peft").eval()
    assert again.hyperparameters["blocks"] == 1
    assert torch.equal(again(ids, mask), expected)


def test_peft_opens_three_labels_with_their_names(family, tmp_path):
    labels = {0: "bad", 1: "fair", 2: "good"}
    new_head = tuple(f"{layer}." for layer in ARCHITECTURES[family].head)
    tiny(family).float().save_pretrained(tmp_path / "base")
    weights = load_file(tmp_path / "base" / "model.safetensors")
    encoder = {name: w for name, w in weights.items() if not name.startswith(new_head)}
    save_file(encoder, tmp_path / "base" / "model.safetensors", metadata={"format": "pt"})
    config = load_config(str(tmp_path / "base"), list(labels.values()))
    model = trained("lora", load_pretrained(str(tmp_path / "base"), config))
    export_peft(model, tmp_path / "p")
    opened = peft.AutoPeftModelForSequenceClassification.from_pretrained(
        tmp_path / "p", id2label=labels
    ).eval()
    assert opened.config.id2label == labels
    ids, mask = tokens()
    logits = opened(input_ids=ids, attention_mask=mask).logits
    assert logits.shape == (3, 3)
    assert (logits - model(ids, mask)).abs().max() < 1e-5  # float32


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
    layers = adapted_layers(LoRAModel(tiny(family), targets=("o", "down")))
    by_peft = peft_trained(tiny(family), tmp_path, target_modules=list(layers), use_rslora=True)
    ids, mask = tokens()
    expected = by_peft(input_ids=ids, attention_mask=mask).logits
    by_hand = import_peft(tiny(family), tmp_path).eval()
    assert (by_hand(ids, mask) - expected).abs().max() < 1e-12


@pytest.mark.parametrize(("layers", "blocks"), [([2], 1), ([2, 1], 2), (None, None)])
def test_a_lora_that_peft_trained_in_the_last_blocks_loads_into_ours(tmp_path, layers, blocks):
    options = {"target_modules": ["query", "value"], "layers_to_transform": layers}
    by_peft = peft_trained(tiny(layers=3), tmp_path, **options)
    ids, mask = tokens()
    expected = by_peft(input_ids=ids, attention_mask=mask).logits
    by_hand = import_peft(tiny(layers=3), tmp_path).eval()
    assert by_hand.hyperparameters["blocks"] == blocks
    assert (by_hand(ids, mask) - expected).abs().max() < 1e-12


@pytest.mark.parametrize(
    ("layers", "line"),
    [([1], "no LoRA in the last block"), ([0, 2], r"bert.encoder.layer..*\.lora_A in .*expected")],
)
def test_a_lora_that_peft_trained_in_other_blocks_is_refused(tmp_path, layers, line):
    options = {"target_modules": ["query", "value"], "layers_to_transform": layers}
    peft_trained(tiny(layers=3), tmp_path, **options)
    with pytest.raises(BadInput, match=line) as error:
        import_peft(tiny(layers=3), tmp_path)
    assert "\n" not in str(error.value)


def test_load_peft_classifies(model_folder, tmp_path):
    peft_trained(tiny().float(), tmp_path, target_modules=["query", "value"])
    loaded = load_peft(tmp_path, model_folder, ["bad", "good"], max_tokens=16)
    base = Classifier.from_pretrained(model_folder)
    by_peft = peft.PeftModel.from_pretrained(base, tmp_path).eval()
    how = {"padding": True, "truncation": True, "max_length": 16, "return_tensors": "pt"}
    batch = AutoTokenizer.from_pretrained(model_folder)(TEXTS, **how)
    expected = by_peft(**batch).logits.softmax(1).max(1).values.tolist()
    assert [p for _, p in loaded(TEXTS)] == pytest.approx(expected, abs=1e-6)


# ---------------------------------------------------------------------------- what was trained


def initialised(start, folder):
    """peft's logits after one of its initialisations, and the folder that it saves."""
    how = {"target_modules": ["query", "value"], "init_lora_weights": start}
    config = peft.LoraConfig(task_type="SEQ_CLS", r=3, lora_alpha=7, **how)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        by_peft = peft.get_peft_model(tiny().float(), config).eval()
    by_peft.save_pretrained(folder)
    return by_peft


def base_is_changed(by_peft):
    changed = {n: p for n, p in by_peft.named_parameters() if n.endswith("base_layer.weight")}
    own = dict(tiny().float().named_parameters())
    short = {n.removeprefix(PREFIX).replace(".base_layer", ""): p for n, p in changed.items()}
    return not all(torch.equal(p, own[n]) for n, p in short.items())


@pytest.mark.parametrize("start", ["pissa", "olora"])
def test_an_initialisation_that_changes_the_base_is_refused_by_name(tmp_path, start):
    assert base_is_changed(initialised(start, tmp_path))
    with pytest.raises(BadInput, match=f"init_lora_weights = '{start}'"):
        import_peft(tiny().float(), tmp_path)


def peft_config(folder):
    return json.loads((folder / "adapter_config.json").read_text())


def edit_config(folder, **changes):
    (folder / "adapter_config.json").write_text(json.dumps(peft_config(folder) | changes))


def test_every_other_option_of_peft_and_an_unknown_one_is_refused_by_name(tmp_path):
    initialised(True, tmp_path)
    whole = peft_config(tmp_path)
    options = whole.keys() - READ_OR_HARMLESS | {"of_a_newer_peft"}
    assert len(options) > 20 and options > SUPPORTED.keys()
    for option in options:
        for value in ("x", ["x"], {"x": 1}):
            edit_config(tmp_path, **{option: value})
            with pytest.raises(BadInput, match=f"{option} = .* not supported"):
                import_peft(tiny().float(), tmp_path)
        (tmp_path / "adapter_config.json").write_text(json.dumps(whole))
    import_peft(tiny().float(), tmp_path)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_file_of_peft_that_is_absent_or_damaged_is_one_line(tmp_path, name):
    initialised(True, tmp_path)
    for content in (b"", b"[]", b"{}", (tmp_path / name).read_bytes()[:60], None):
        if content is None:
            (tmp_path / name).unlink()
        else:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(BadInput, match="the LoRA in .* cannot be read") as error:
            import_peft(tiny().float(), tmp_path)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("base_has_it", [True, False])
def test_a_pooler_that_peft_did_not_save_is_the_bases_or_refused(
    model_folder, tmp_path, base_has_it
):
    base = shutil.copytree(model_folder, tmp_path / "base")
    weights = load_file(base / "model.safetensors")
    left_out = () if base_has_it else ("bert.pooler.", "classifier.")
    weights = {name: w for name, w in weights.items() if not name.startswith(left_out)}
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    by_peft = peft_trained(
        Classifier.from_pretrained(base), tmp_path / "p", target_modules=["query"]
    )
    assert not any("pooler" in name for name in load_file(tmp_path / "p" / TENSORS))
    if base_has_it:
        ids, mask = tokens()
        model = load_peft(tmp_path / "p", base, ["bad", "good"], 16).model
        expected = by_peft(input_ids=ids, attention_mask=mask).logits
        assert (model(ids, mask) - expected).abs().max() < 1e-5
    else:
        with pytest.raises(BadInput, match=r"bert\.pooler\.dense\.bias in .*nothing"):
            load_peft(tmp_path / "p", base, ["bad", "good"], 16)


# ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "format", "line"),
    [
        ("adapter", "transformers", "no class with the weights that adapter adds"),
        ("reft", "transformers", "no class with the weights that reft adds"),
        ("side", "transformers", "no class with the weights that side adds"),
        ("head", "peft", "peft has no form for HeadOnlyModel"),
        ("adapter", "peft", "peft has no form for AdapterModel"),
        ("reft", "peft", "peft has no form for ReFTModel"),
        ("side", "peft", "peft has no form for SideModel"),
        ("bitfit", "peft", "peft has no form for BitFitModel"),
        ("full", "peft", "peft has no form for FullModel"),
        ("lora", "onnx", "unknown format 'onnx'; choose from peft, transformers"),
    ],
)
def test_a_method_that_the_other_library_lacks_is_said(checkpoint, tmp_path, method, format, line):  # noqa: F811
    _, finetuned = checkpoint(method)
    assert method in METHODS
    with pytest.raises(BadInput, match=line):
        finetuned.export(tmp_path / "x", format)


@pytest.mark.parametrize("left", ["merged", "no blocks"])
def test_a_model_that_holds_no_adapted_layer_is_no_export_for_peft(tmp_path, left):
    model = LoRAModel(tiny(), blocks=0 if left == "no blocks" else None)
    merge(model)
    with pytest.raises(BadInput, match="no layer is adapted"):
        export_peft(model, tmp_path / "p")


def test_a_second_export_leaves_nothing_of_the_first(tmp_path):
    first, second = (trained("lora", tiny(seed=seed).float()) for seed in (1, 2))
    export_peft(first, tmp_path)
    export_transformers(second, tmp_path)
    logits = Classifier.from_pretrained(tmp_path)(*tokens()).logits
    assert torch.allclose(logits, second(*tokens()), atol=1e-5)


def test_a_pipeline_has_our_probabilities_whatever_the_base_was_trained_for(tmp_path):
    base = tiny().float()
    base.config.problem_type = "multi_label_classification"
    export_transformers(trained("lora", base), tmp_path / "t")
    config = Classifier.from_pretrained(tmp_path / "t").config
    assert config.problem_type == "single_label_classification"


# ---------------------------------------------------------------------------- the model card


def test_a_model_card_says_what_the_runs_record_says(checkpoint, tmp_path):  # noqa: F811
    folder, _ = checkpoint("lora", "left", rank=2)
    run = {"experiment": "e", "model": "all-MiniLM-L6-v2", "data_set": "notes.csv", "seed": 3}
    run |= {"method": "lora(rank=2)", "name": "lora", "baseline": False, "device": "cpu"}
    run |= {"status": "finished", "learning_rate": 2e-3, "test_accuracy": 0.83}
    (folder / "run.json").write_text(json.dumps(run))
    load_finetuned(folder).export(tmp_path / "p", format="peft")
    card = ModelCard.load(tmp_path / "p" / "README.md")
    facts, body = card.data.to_dict(), card.text
    assert facts.pop("tags")[0] == "lora"
    expected = {"base_model": "all-MiniLM-L6-v2", "library_name": "peft"}
    assert facts == expected | {"pipeline_tag": "text-classification"}
    for line in (
        "Data set**: notes.csv",
        "learning rate 0.002, seed 3",
        "Test accuracy**: 83.0%",
        "Labels**: bad, good",
        "rank = 2,",
        "at most 12 tokens; a longer text keeps its last",
        "from_pretrained(folder, id2label={0: 'bad', 1: 'good'}, pad_token_id=0)",
    ):
        assert line in body


def test_a_model_card_without_a_runs_record_says_what_is_known(
    checkpoint,  # noqa: F811
    model_folder,
    tmp_path,
):
    _, finetuned = checkpoint("head")
    for _ in range(2):  # an earlier card is replaced
        finetuned.export(tmp_path / "t", format="transformers")
    card = ModelCard.load(tmp_path / "t" / "README.md")
    facts, body = card.data, card.text
    assert facts.library_name == "transformers" and facts.base_model == model_folder.name
    assert "Method**: head" in body and "Data set" not in body and "accuracy" not in body
    assert str(model_folder) not in card.content  # a path of this machine


@pytest.mark.parametrize("name", ["c/run.json", "x/README.md"])
def test_what_a_model_card_cannot_use_is_refused_before_anything_is_written(
    checkpoint,  # noqa: F811
    tmp_path,
    name,
):
    folder, _ = checkpoint()
    (tmp_path / "x").mkdir()
    (tmp_path / name).write_text("[]")
    with pytest.raises(BadInput, match=name.replace(".", r"\.")):
        load_finetuned(folder).export(tmp_path / "x", format="peft")
    assert [path.name for path in (tmp_path / "x").iterdir() if path.name != "README.md"] == []
