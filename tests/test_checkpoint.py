"""A checkpoint holds the trained tensors alone, brings them back to the last bit, or is refused."""

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import peft
import pytest
import torch
from conftest import SPECIAL, WORDS, tiny, tokens
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import AutoTokenizer, PreTrainedTokenizerFast

import hardware
from boundary import BadInput
from modeling import (
    METHODS,
    Finetuned,
    load_config,
    load_finetuned,
    load_peft,
    load_pretrained,
    load_tokenizer,
    predict,
    save_checkpoint,
)
from modeling.architectures import architecture_of
from modeling.finetuned import ABOUT, AT_ONCE, TENSORS

pytestmark = pytest.mark.usefixtures("in_float32_on_the_cpu")


def trained(method, base, **choice):
    model = METHODS[method](base, **choice).eval()
    torch.manual_seed(2)
    for parameter in model.trainable_parameters().values():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def methods_of(family):
    without_biases = family in ("modernbert", "llama", "qwen3")
    return [name for name in METHODS if not (name == "bitfit" and without_biases)]


def test_reloaded_tensors_give_bit_equal_logits(family):
    for method in methods_of(family):
        model, fresh = trained(method, tiny(family)), METHODS[method](tiny(family)).eval()
        stored = {name: p.detach().clone() for name, p in model.trainable_parameters().items()}
        assert not torch.equal(fresh(*tokens()), model(*tokens()))
        fresh.load_trained(stored, "them")
        assert torch.equal(fresh(*tokens()), model(*tokens()))


@pytest.fixture
def checkpoint(model_folder, tmp_path):
    """A function that trains a method on the tiny base and writes its checkpoint."""

    def make(method="lora", truncation="left", **choice):
        config = load_config(str(model_folder), ["bad", "good"])
        tokenizer = load_tokenizer(str(model_folder), config, 12, truncation)
        model = trained(method, load_pretrained(str(model_folder), config), **choice)
        save_checkpoint(model, tmp_path / "c", tokenizer)
        return tmp_path / "c", Finetuned(model, tokenizer)

    return make


LONG = "good film " * 4 + "the actor was awful and the plot was very dull " * 2  # 26 words
TEXTS = [
    LONG,
    "a good film",
    "the plot was very dull and the actor awful",
    "a great film and actor",
]


@pytest.mark.parametrize("method", METHODS)
def test_a_checkpoint_classifies_as_the_model_did(checkpoint, method):
    folder, finetuned = checkpoint(method)
    loaded = load_finetuned(folder)
    assert loaded(TEXTS) == finetuned(TEXTS)
    assert {label for label, _ in loaded(TEXTS)} <= {"bad", "good"}
    assert torch.equal(loaded.model(*tokens()), finetuned.model(*tokens()))


@pytest.mark.parametrize("pooling", ["mean", "layers"])
def test_a_checkpoint_reads_what_the_model_read(checkpoint, pooling):
    folder, finetuned = checkpoint(pooling=pooling)
    loaded = load_finetuned(folder)
    assert loaded.model.pooling == pooling and loaded(TEXTS) == finetuned(TEXTS)
    assert torch.equal(loaded.model(*tokens()), finetuned.model(*tokens()))


@pytest.mark.parametrize("method", ["adapter", "lora", "bitfit", "full"])
def test_a_checkpoint_of_the_last_blocks_has_their_tensors_alone(checkpoint, method):
    folder, finetuned = checkpoint(method, blocks=1)
    names = [name for name in load_file(folder / "trained.safetensors") if ".layer." in name]
    assert names and all(".layer.1." in name for name in names)
    loaded = load_finetuned(folder)
    assert loaded.model.hyperparameters["blocks"] == 1 and loaded.model.frozen_blocks == 1
    assert loaded(TEXTS) == finetuned(TEXTS)


@pytest.mark.parametrize("truncation", ["left", "right"])
def test_long_texts_are_truncated_as_in_training(checkpoint, truncation):
    folder, finetuned = checkpoint(truncation=truncation)
    words = LONG.split()
    part = " ".join(words[-10:] if truncation == "left" else words[:10])  # with [CLS], [SEP]: 12
    for classify in (finetuned, load_finetuned(folder)):
        assert classify([LONG]) == classify([part])
        assert classify.tokenizer.truncation_side == truncation
        assert classify.tokenizer.model_max_length == 12
    other = " ".join(words[:10] if truncation == "left" else words[-10:])
    assert finetuned([LONG]) != finetuned([other])


def edit(folder, **changes):
    (folder / ABOUT).write_text(json.dumps(json.loads((folder / ABOUT).read_text()) | changes))


def base_of(folder):
    return Path(json.loads((folder / ABOUT).read_text())["base_model"])


def other_base(folder):
    base = folder.parent / "other"
    tiny(seed=9).float().save_pretrained(base)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(base_of(folder) / name, base)
    edit(folder, base_model=str(base))


def other_heads(folder):
    """The same weights, read by a model of another shape."""
    base = shutil.copytree(base_of(folder), folder.parent / "heads")
    config = json.loads((base / "config.json").read_text()) | {"num_attention_heads": 4}
    (base / "config.json").write_text(json.dumps(config))
    edit(folder, base_model=str(base))


def without(name):
    return lambda folder: (folder / name).unlink()


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (lambda f: (f / ABOUT).write_text("[]"), "cannot be read .* expected results/"),
        (lambda f: edit(f, label_names=["a", "b", "c"]), "with 3 labels: see classifier"),
        (lambda f: edit(f, max_tokens=99), "MAX_TOKENS is 99, but .* has 18 positions; set it to"),
        (lambda f: edit(f, method="lorra"), "the checkpoint .* cannot be read .*lorra"),
        (lambda f: edit(f, hyperparameters={"rnk": 4}), "the checkpoint .* cannot be read .*rnk"),
        (lambda f: edit(f, hyperparameters={"rank": "x"}), "the checkpoint .* cannot be read"),
        (other_base, "is not the base model of"),
        (other_heads, "is not the base model of"),
        (without("checkpoint.json"), "cannot be read .*No such file.*; expected results/"),
        (without("trained.safetensors"), "cannot be read .*No such file"),
        (lambda f: (f / "trained.safetensors").write_bytes(b"x" * 99), "cannot be read .Safeten"),
    ],
)
def test_a_damaged_or_foreign_checkpoint_is_refused(checkpoint, damage, line):
    folder, _ = checkpoint()
    damage(folder)
    with pytest.raises(BadInput, match=line) as error:
        load_finetuned(folder)
    assert "\n" not in str(error.value)


def test_a_tilde_is_the_users_folder(checkpoint, tmp_path, monkeypatch):
    folder, finetuned = checkpoint()
    base = finetuned.model.pretrained.config._name_or_path
    shutil.copytree(base, tmp_path / "base")
    edit(folder, base_model="elsewhere")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    loaded = load_finetuned(f"~/{folder.name}", base="~/base")
    assert loaded(TEXTS) == finetuned(TEXTS)
    loaded.export("~/exported", format="peft")
    assert (tmp_path / "exported" / "adapter_config.json").exists()
    again = load_peft("~/exported", "~/base", ["bad", "good"], 12, "left")
    assert again(TEXTS) == finetuned(TEXTS)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda t: t.pop("classifier.weight"), "classifier.weight in the file is nothing, expec"),
        (
            lambda t: t.update(extra=torch.zeros(1)),
            r"extra .* is \(1,\), expected nothing",
        ),
        (lambda t: t.update({"classifier.bias": torch.zeros(3)}), r"is \(3,\), expected \(2,\)"),
    ],
)
def test_wrong_tensors_are_refused_and_nothing_is_loaded(change, line):
    model = trained("lora", tiny())
    tensors = {name: p.detach().clone() for name, p in model.trainable_parameters().items()}
    change(tensors)
    fresh = METHODS["lora"](tiny()).eval()
    before = fresh(*tokens())
    with pytest.raises(BadInput, match=line):
        fresh.load_trained(tensors, "the file")
    assert torch.equal(fresh(*tokens()), before)


def test_any_number_of_texts_is_computed_in_micro_batches(checkpoint, monkeypatch):
    _, finetuned = checkpoint()
    texts = [" ".join(["good", "film"] * (i % 5)) for i in range(2 * AT_ONCE + 3)]
    encode, sizes = finetuned.model.encode, []
    monkeypatch.setattr(finetuned.model, "encode", lambda *b: sizes.append(len(b[0])) or encode(*b))
    probabilities = finetuned.probabilities(texts)
    assert sizes == [AT_ONCE, AT_ONCE, 3]
    assert probabilities.sum(1) == pytest.approx(torch.ones(len(texts)), abs=1e-6)
    alone = torch.cat([finetuned.probabilities([text]) for text in texts])
    assert torch.allclose(probabilities, alone, atol=1e-6)
    assert finetuned([]) == []


def test_a_classifier_computes_in_the_type_of_training(checkpoint, monkeypatch):
    _, finetuned = checkpoint()
    encode, cast = finetuned.model.encode, []
    monkeypatch.setattr(hardware, "compute_type", lambda device: torch.bfloat16)
    monkeypatch.setattr(
        finetuned.model,
        "encode",
        lambda *batch: cast.append(torch.is_autocast_enabled("cpu")) or encode(*batch),
    )
    assert len(finetuned(TEXTS)) == len(TEXTS) and cast == [True]


def test_the_encoders_dropout_is_off_and_the_heads_as_it_was(family, tmp_path):
    config = tiny(family).config
    row = architecture_of(config)
    for i, rate in enumerate(row.encoder_dropouts):
        setattr(config, rate, 0.2 + i / 10)
    config.save_pretrained(tmp_path)
    before = load_config(str(tmp_path), ["bad", "good"])
    config = load_config(str(tmp_path), ["bad", "good"], encoder_dropout=0.0)
    assert not any(getattr(config, rate) for rate in row.encoder_dropouts)
    if row.head_dropout:
        own = getattr(before, row.head_dropout, None)
        assert getattr(config, row.head_dropout) == (0.2 if own is None else own) != 0


def test_a_decoder_whose_tokenizer_has_no_padding_classifies_alone_and_in_a_batch(tmp_path):
    tiny("llama").float().save_pretrained(tmp_path)
    words = Tokenizer(WordLevel({word: i for i, word in enumerate(SPECIAL + WORDS)}, "[UNK]"))
    words.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="[SEP]").save_pretrained(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path).pad_token is None
    config = load_config(str(tmp_path), ["bad", "good"])
    tokenizer = load_tokenizer(str(tmp_path), config, 12)
    assert tokenizer.pad_token == "[SEP]" and config.pad_token_id == 3
    model = trained("lora", load_pretrained(str(tmp_path), config))
    classify = Finetuned(model, tokenizer)
    together = classify(TEXTS)
    for text, (label, probability) in zip(TEXTS, together, strict=True):
        [alone] = classify([text])
        assert alone == (label, pytest.approx(probability, abs=1e-6))
    with pytest.raises(BadInput, match="a text has no token"):
        classify(["good", ""])
    classify.export(tmp_path / "p", format="peft")
    (call,) = re.findall(
        "from_pretrained.folder, (.*).`", (tmp_path / "p" / "README.md").read_text()
    )
    opened = peft.AutoPeftModelForSequenceClassification.from_pretrained(
        tmp_path / "p", **eval(f"dict({call})")
    )
    batch = tokenizer(TEXTS, truncation=True, padding=True, return_tensors="pt")
    logits = opened.eval()(**{k: batch[k] for k in ("input_ids", "attention_mask")}).logits
    assert torch.allclose(logits.softmax(1), classify.probabilities(TEXTS), atol=1e-5)


def test_predict_writes_labels_and_probabilities_of_a_table(
    checkpoint, tmp_path, capsys, monkeypatch
):
    folder, finetuned = checkpoint()
    table, output = tmp_path / "texts.csv", tmp_path / "p.csv"
    monkeypatch.setenv("HOME", str(tmp_path))
    pd.DataFrame({"n": range(len(TEXTS)), "body": TEXTS}).to_csv(table, index=False)
    given = [str(folder), str(table), "--output=~/p.csv"]
    assert predict.main([*given, "--text-column", "body"]) == 0
    found = pd.read_csv(output)
    assert found.columns.tolist() == ["label", "probability_bad", "probability_good"]
    assert found["label"].tolist() == [label for label, _ in finetuned(TEXTS)]
    expected = finetuned.probabilities(TEXTS)
    assert found.iloc[:, 1:].to_numpy() == pytest.approx(expected.numpy(), abs=1e-6)
    assert predict.main([*given, "--text-column", "body"]) == 2
    assert "p.csv exists; move it" in capsys.readouterr().err
    output.unlink()
    assert predict.main([*given, "--traceback"]) == 2
    said = capsys.readouterr().err
    assert "has no column 'text'; it has 'n', 'body'; give --text-column" in said
    assert said.startswith("Traceback")


def test_predict_that_cannot_write_says_so_before_it_computes(
    checkpoint, tmp_path, capsys, monkeypatch
):
    folder, _ = checkpoint()
    monkeypatch.setattr(predict, "load_finetuned", None)
    table = tmp_path / "texts.csv"
    pd.DataFrame({"text": TEXTS}).to_csv(table, index=False)
    for output in (str(table / "p.csv"), "x" * 300):
        assert predict.main([str(folder), str(table), "--output", output]) == 2
        assert "choose another --output" in capsys.readouterr().err


def test_tensors_that_are_not_finite_are_refused(checkpoint):
    folder, finetuned = checkpoint()
    tensors = load_file(folder / TENSORS)
    next(iter(tensors.values())).view(-1)[0] = torch.nan
    save_file(tensors, folder / TENSORS)
    with pytest.raises(BadInput, match="has values that are not finite"):
        load_finetuned(folder)
