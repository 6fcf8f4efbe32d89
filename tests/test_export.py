"""Our models in onnxruntime and transformers: the same probabilities, and no path of ours."""

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import test_checkpoint
import torch
from conftest import files_of, tiny, tokens
from safetensors.torch import load_file, save_file
from test_checkpoint import LONG, TEXTS, code_of, edit, saved, trained
from transformers import AutoModelForSequenceClassification as Classifier

import modeling.export
from boundary import BadInput
from data_utils import clean, encoder_folder
from modeling import METHODS, adapted_layers, load_encoder, load_finetuned
from modeling.architectures import ARCHITECTURES
from modeling.export import export_onnx, export_transformers
from modeling.finetuned import EncoderClassifier

pytestmark = pytest.mark.usefixtures("in_float32_on_the_cpu")
baseline, checkpoint = test_checkpoint.baseline, test_checkpoint.checkpoint


class NoTokenizer:
    __call__ = save = save_pretrained = lambda *_, **__: None
    backend_tokenizer = property(lambda self: self)


def of(model):
    """What the functions of export.py take."""
    return EncoderClassifier(model, NoTokenizer())


def with_onnx():
    """onnxruntime; a test that needs it is skipped where the optional packages are not there."""
    return [pytest.importorskip(name) for name in ("onnx", "onnxscript", "onnxruntime")][-1]


def in_onnx(model, folder):
    """A function of token ids and mask, by onnxruntime."""
    onnxruntime = with_onnx()
    export_onnx(of(model), folder)
    session = onnxruntime.InferenceSession(folder / "model.onnx")

    def compute(ids, mask):
        inputs = {"input_ids": ids.numpy(), "attention_mask": mask.numpy()}
        return torch.from_numpy(session.run(None, inputs)[0])

    return compute


@torch.no_grad()
def largest_difference(model, compute):
    """Of probabilities: batches of one and several, short and long, with and without padding."""
    alone = torch.randint(5, 20, (1, 1)), torch.ones(1, 1, dtype=torch.long)
    batches = tokens(3, 7), tokens(1, 5), tokens(5, 16), alone
    differences = [compute(*batch) - model(*batch).softmax(1) for batch in batches]
    return max(difference.abs().max().item() for difference in differences)


def test_every_family_runs_in_onnxruntime(family, tmp_path):
    pooling = "first" if family in ("bert", "modernbert", "llama") else "layers"
    layers = 2 if family == "modernbert" else 1  # with global and with local attention
    model = trained("lora", tiny(family, layers=layers).float(), pooling=pooling)
    assert largest_difference(model, in_onnx(model, tmp_path)) < 1e-4


PLAIN = "head", "bitfit", "ln", "full", "lora", "dora", "vera"  # they leave plain layers


@pytest.mark.parametrize("method", [name for name in METHODS if name not in PLAIN])
def test_what_a_method_adds_runs_in_onnxruntime(method, tmp_path):
    model = trained(method, tiny(layers=1).float(), pooling="mean")
    assert largest_difference(model, in_onnx(model, tmp_path)) < 1e-4
    assert adapted_layers(model).keys() == adapted_layers(METHODS[method](tiny(layers=1))).keys()


RAW = [*TEXTS, "  dull<br />plot ", "", LONG * 3, "a < b", "e\u0301 in two characters"]
KINDS = [("lora", "left"), ("lora", "right"), ("probe", "left")]


@pytest.mark.parametrize(("kind", "truncation"), KINDS)
def test_the_readmes_code_is_right(checkpoint, baseline, tmp_path, monkeypatch, kind, truncation):
    with_onnx()
    folder = baseline(kind) if kind == "probe" else checkpoint(kind, truncation)[0]
    classify = load_finetuned(folder)
    classify.export(tmp_path / "o")
    code = code_of(tmp_path / "o")
    assert len([line for line in code.splitlines() if line.strip()]) < 25
    monkeypatch.chdir(tmp_path / "o")
    exec(code, names := {})
    for ours, theirs in zip(classify(RAW), names["classify"](RAW), strict=True):
        assert theirs == (ours[0], pytest.approx(ours[1], abs=1e-4, nan_ok=True))
    seen, encode = [], names["tokenizer"].encode_batch
    names["tokenizer"] = SimpleNamespace(encode_batch=lambda t: seen.extend(t) or encode(t))
    names["classify"](RAW)
    assert seen == [clean(text) for text in RAW]


def test_default_names_of_labels_are_written_too(tmp_path):
    with_onnx()
    model = METHODS["head"](tiny(layers=1).float(), "mean")
    assert model.pretrained.config.id2label[0] == "LABEL_0"
    export_onnx(of(model), tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["id2label"]["0"] == "LABEL_0"


def test_a_decoder_that_ends_texts_with_its_padding_token_goes_to_onnx_alone(tmp_path):
    """The classifiers of transformers look for the last token that is no padding."""
    base = test_checkpoint.decoder(tmp_path / "base", ends_texts=True)
    folder = saved(base, tmp_path / "c", lambda b: METHODS["lora"](b, "first", blocks=1))[0]
    with pytest.raises(BadInput, match='transformers would take a .* padding; use format="onnx"'):
        load_finetuned(folder).export(tmp_path / "x", "transformers")


def test_without_onnx_one_line_says_what_to_install(checkpoint, tmp_path, monkeypatch):
    _, classify = checkpoint()
    monkeypatch.setattr(modeling.export, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match="pip install -r requirements-onnx.txt"):
        classify.export(tmp_path / "o")
    assert not (tmp_path / "o").exists()


FORMATS = [("onnx", False), ("transformers", True), ("transformers", False)]


@pytest.mark.parametrize(("format", "bundled"), FORMATS)
def test_an_exported_folder_names_nothing_of_this_machine(model_folder, tmp_path, format, bundled):
    if format == "onnx":
        with_onnx()
    base = encoder_folder("minilm") if bundled else model_folder
    folder = saved(base, tmp_path / "c", lambda b: METHODS["lora"](b, "first", blocks=1))[0]
    if bundled:
        edit(folder, base_model="minilm")
    umask = os.umask(0o022)  # the usual rights
    load_finetuned(folder).export(tmp_path / "x", format)
    os.umask(umask)
    private = [str(base), str(tmp_path), "site-packages", str(Path.home()) + "/"]
    for file in (tmp_path / "x").iterdir():
        content = file.read_bytes()
        assert not [path for path in private if path.encode() in content], file
        assert file.stat().st_mode & 0o777 == 0o644
    name = "sentence-transformers/all-MiniLM-L6-v2" if bundled else model_folder.name
    readme = (tmp_path / "x" / "README.md").read_text()
    assert readme.startswith(f"---\nbase_model: {name}\n")
    assert f"\n# {name}, fine-tuned with lora\n" in readme


@pytest.mark.parametrize(("method", "side"), [("lora", "left"), ("full", "right")])
def test_the_readmes_pipeline_truncates_alike(checkpoint, tmp_path, monkeypatch, method, side):
    folder, finetuned = checkpoint(method, side)
    before = finetuned(TEXTS)
    load_finetuned(folder).export(tmp_path / "unused", format="transformers")
    finetuned.export(tmp_path / "used", format="transformers")
    for name in ("unused", "used"):  # a tokenizer that has truncated before, and one that has not
        monkeypatch.chdir(tmp_path / name)
        exec(code_of(tmp_path / name), names := {})
        assert TEXTS[0] == LONG
        for (label, probability), theirs in zip(before, names["classify"](TEXTS), strict=True):
            assert theirs["label"] == label
            assert theirs["score"] == pytest.approx(probability, abs=1e-6)
    assert finetuned(TEXTS) == before  # the export has left the model as it was


def test_a_lora_of_the_last_block_goes_to_transformers(family, tmp_path, model_folder):
    """Around a base without a head, as most are, and with three labels."""
    labels, base = {0: "bad", 1: "fair", 2: "good"}, tmp_path / "base"
    new_head = tuple(f"{layer}." for layer in ARCHITECTURES[family].head)
    tiny(family, layers=3, vocab_size=21).float().save_pretrained(base)
    weights = load_file(base / "model.safetensors")
    encoder = {name: w for name, w in weights.items() if not name.startswith(new_head)}
    save_file(encoder, base / "model.safetensors", metadata={"format": "pt"})
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(model_folder / name, base)
    pretrained = load_encoder(str(base), labels.values(), 16).pretrained
    model = trained("lora", pretrained, blocks=1, rslora=True)
    export_transformers(of(model), tmp_path)
    ids, mask = tokens()
    loaded = Classifier.from_pretrained(tmp_path).eval()
    assert loaded.config.id2label == labels
    logits = loaded(input_ids=ids, attention_mask=mask).logits
    assert logits.shape == (3, 3)
    assert (logits - model(ids, mask)).abs().max() < 1e-5  # float32


class Double(METHODS["lora"]):
    """A method that does more than its weights say."""

    def encode(self, *given):
        return 2 * super().encode(*given)


@pytest.mark.parametrize(
    ("method", "pooling", "format", "line"),
    [
        ("double", "first", "transformers", "does more"),
        ("adapter", "first", "transformers", "no class with the weights that adapter adds; use"),
        ("lora", "layers", "transformers", "no form for the pooling 'layers', only for 'first'; u"),
        ("lora", "first", "tflite", "unknown format 'tflite'; choose from onnx, transformers"),
    ],
)
def test_what_the_other_library_lacks_is_said(
    checkpoint, tmp_path, monkeypatch, method, pooling, format, line
):
    monkeypatch.setitem(METHODS, "double", Double)
    _, finetuned = checkpoint(method, pooling=pooling)
    with pytest.raises(BadInput, match=line):
        finetuned.export(tmp_path / "x", format)
    assert not (tmp_path / "x").exists()


def test_baselines_say_what_to_do(baseline, tmp_path):
    with pytest.raises(BadInput, match="tfidf has no form for other programs; use its checkpoint"):
        load_finetuned(baseline("tfidf")).export(tmp_path / "x", "onnx")
    with pytest.raises(BadInput, match="transformers has no form for a probe; use format="):
        load_finetuned(baseline("probe")).export(tmp_path / "x", "transformers")


def test_a_folder_with_files_stays_as_it_is(checkpoint, tmp_path):
    _, finetuned = checkpoint()
    (tmp_path / "x").mkdir()
    finetuned.export(tmp_path / "x", "transformers")  # an empty one
    before = files_of(tmp_path / "x")
    with pytest.raises(BadInput, match="is there and not empty; choose another folder"):
        finetuned.export(tmp_path / "x", "onnx")
    assert files_of(tmp_path / "x") == before


def test_a_pipeline_has_our_probabilities_whatever_the_base_was_trained_for(tmp_path):
    base = tiny().float()
    base.config.problem_type = "multi_label_classification"
    export_transformers(of(trained("lora", base)), tmp_path)
    config = Classifier.from_pretrained(tmp_path).config
    assert config.problem_type == "single_label_classification"
