"""A checkpoint holds the trained tensors alone, brings them back to the last bit, or is refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import SPECIAL, WORDS, tiny, tokens
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from boundary import BadInput
from modeling import (
    METHODS,
    Finetuned,
    load_config,
    load_finetuned,
    load_peft,
    load_pretrained,
    load_tokenizer,
    save_checkpoint,
)
from modeling.checkpoint import FORMAT, load_trained, replacing, save_trained


def trained(method, base, **choice):
    model = METHODS[method](base, **choice).eval()
    torch.manual_seed(2)
    for parameter in model.trainable_parameters().values():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def methods_of(family):
    without_biases = family in ("modernbert", "llama", "qwen3")
    return [name for name in METHODS if not (name == "bitfit" and without_biases)]


def test_reloaded_tensors_give_bit_equal_logits(family, tmp_path):
    for method in methods_of(family):
        model, path = trained(method, tiny(family)), tmp_path / "trained.safetensors"
        save_trained(model, path)
        assert load_file(path).keys() == model.trainable_parameters().keys()
        fresh = METHODS[method](tiny(family)).eval()
        assert not torch.equal(fresh(*tokens()), model(*tokens()))
        load_trained(fresh, path)
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


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "folder" / "file.json"
    with replacing(path) as file:
        file.write_text("first")
    with pytest.raises(KeyboardInterrupt), replacing(path) as file:
        file.write_text("sec")
        raise KeyboardInterrupt
    assert path.read_text() == "first"
    with replacing(path) as file:
        file.write_text("third")
    assert path.read_text() == "third" and [*path.parent.iterdir()] == [path]


def edit(folder, **changes):
    about = json.loads((folder / "checkpoint.json").read_text()) | changes
    (folder / "checkpoint.json").write_text(json.dumps(about))


def edit_choice(folder, **changes):
    choice = json.loads((folder / "checkpoint.json").read_text())["hyperparameters"]
    edit(folder, hyperparameters=choice | changes)


def truncate(path, size):
    path.write_bytes(path.read_bytes()[:size])


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def other_base(folder):
    base = folder.parent / "other"
    tiny(seed=9).float().save_pretrained(base)
    source = Path(json.loads((folder / "checkpoint.json").read_text())["base_model"])
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(source / name, base)
    edit(folder, base_model=str(base))


def other_heads(folder):
    """The same weights, read by a model of another shape."""
    source = Path(json.loads((folder / "checkpoint.json").read_text())["base_model"])
    base = shutil.copytree(source, folder.parent / "heads")
    config = json.loads((base / "config.json").read_text()) | {"num_attention_heads": 4}
    (base / "config.json").write_text(json.dumps(config))
    edit(folder, base_model=str(base))


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (lambda f: truncate(f / "trained.safetensors", 500), "is damaged"),
        (lambda f: flip_a_bit(f / "trained.safetensors"), "is damaged, or not the one"),
        (lambda f: (f / "checkpoint.json").write_text("[]"), "checkpoint.json cannot be read"),
        (lambda f: edit(f, hyperparameters={"rnk": 4}), "cannot be read.*rnk"),
        (lambda f: edit_choice(f, rank="4"), "cannot be read.*TypeError"),
        (lambda f: edit_choice(f, rslora="false"), "cannot be read.*'rslora': 'false'"),
        (lambda f: edit_choice(f, blocks=9), "blocks is 9; expected 0 to 2"),
        (lambda f: edit_choice(f, blocks="1"), "cannot be read.*TypeError"),
        (lambda f: edit_choice(f, blocks=True), "cannot be read.*'blocks': True"),
        (lambda f: edit_choice(f, rank=True), "cannot be read.*'rank': True"),
        (lambda f: edit(f, label_names=2), "cannot be read.*label_names 2"),
        (lambda f: edit(f, label_names="ab"), "cannot be read.*label_names ab"),
        (
            lambda f: edit(f, label_names=["a", "b", "c"]),
            "for 2 labels, and there are 3",
        ),
        (lambda f: edit(f, max_tokens="12"), "cannot be read.*max_tokens"),
        (lambda f: edit(f, max_tokens=99), "MAX_TOKENS is 99, but .* has 18 positions; set it to"),
        (lambda f: edit(f, truncation="up"), "truncation is 'up'; choose from left, right"),
        (lambda f: edit(f, fingerprint="0" * 64), "is not the base model of"),
        (lambda f: truncate(f / "trained.safetensors", 5), "is damaged"),
        (lambda f: truncate(f / "checkpoint.json", 40), "cannot be read"),
        (lambda f: edit(f, method="lorra"), "cannot be read.*lorra"),
        (
            lambda f: edit(f, format=FORMAT - 1),
            f"has format {FORMAT - 1}, and this version reads {FORMAT}",
        ),
        (other_base, "is not the base model of"),
        (other_heads, "is not the base model of"),
    ],
)
def test_a_damaged_newer_or_foreign_checkpoint_is_refused(checkpoint, damage, line):
    folder, _ = checkpoint()
    damage(folder)
    with pytest.raises(BadInput, match=line):
        load_finetuned(folder)


@pytest.mark.parametrize("name", ["checkpoint.json", "trained.safetensors"])
def test_a_damaged_byte_gives_one_line_or_the_same_classifier(checkpoint, name):
    folder, finetuned = checkpoint()
    path, expected = folder / name, finetuned(TEXTS)
    whole = path.read_bytes()
    for place in range(0, len(whole), max(1, len(whole) // 25)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x81]) + whole[place + 1 :])
        try:
            assert load_finetuned(folder)(TEXTS) == expected
        except BadInput as error:
            assert "\n" not in str(error)


def test_a_checkpoint_with_a_field_missing_or_of_another_type_is_refused(checkpoint):
    folder, _ = checkpoint()
    path = folder / "checkpoint.json"
    whole = json.loads(path.read_text())
    choice = whole["hyperparameters"]
    damaged = [
        whole | {"hyperparameters": {k: choice[k] for k in choice if k != n}} for n in choice
    ]
    for name in whole:
        damaged.append({k: v for k, v in whole.items() if k != name})
        damaged += [whole | {name: value} for value in (None, [], {}, "x", True)]
    for about in damaged:
        path.write_text(json.dumps(about))
        with pytest.raises(BadInput) as error:
            load_finetuned(folder)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["checkpoint.json", "trained.safetensors"])
def test_a_folder_in_the_place_of_a_file_is_refused(checkpoint, name):
    folder, _ = checkpoint()
    (folder / name).unlink()
    (folder / name).mkdir()
    with pytest.raises(BadInput, match="cannot be read .IsADirectoryError"):
        load_finetuned(folder)


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
    ("name", "line"),
    [("checkpoint.json", "has no checkpoint.json; expected results/"), ("trained", "No such file")],
)
def test_a_missing_file_is_named(checkpoint, name, line):
    folder, _ = checkpoint()
    for path in folder.glob(f"{name}*"):
        path.unlink()
    with pytest.raises(BadInput, match=line):
        load_finetuned(folder)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda t: t.pop("classifier.weight"), "lacks the trained tensor classifier.weight"),
        (lambda t: t.update(extra=torch.zeros(1)), "has extra, which this model does not train"),
        (
            lambda t: t.update({"classifier.bias": torch.zeros(3)}),
            r"has shape \(3,\), expected \(2,\)",
        ),
        (lambda t: t["classifier.bias"].fill_(torch.nan), "classifier.bias in .* not finite"),
        (
            lambda t: t.update({"classifier.bias": torch.zeros(2, dtype=torch.int32)}),
            "classifier.bias in .* not finite",
        ),
    ],
)
def test_wrong_tensors_are_refused_and_nothing_is_loaded(tmp_path, change, line):
    path = tmp_path / "trained.safetensors"
    save_trained(trained("lora", tiny()), path)
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    fresh = METHODS["lora"](tiny()).eval()
    before = fresh(*tokens())
    with pytest.raises(BadInput, match=line):
        load_trained(fresh, path)
    assert torch.equal(fresh(*tokens()), before)


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
