"""A checkpoint holds the trained tensors alone, brings them back to the last bit, or is refused."""

import json
import math
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import SPECIAL, WORDS, tiny, tokens
from safetensors.torch import load_file
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
from modeling.checkpoint import ABOUT, _digest, copy_tensors


@pytest.fixture(autouse=True)
def in_float32_on_the_cpu(monkeypatch):
    monkeypatch.setattr(hardware, "compute_type", lambda device: torch.float32)
    monkeypatch.setattr(hardware, "choose_device", lambda: torch.device("cpu"))


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
        copy_tensors(fresh, stored, "them")
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
    """Change checkpoint.json as a version that wrote that would have."""
    about = json.loads((folder / ABOUT).read_text()) | changes
    del about["digest"]
    (folder / ABOUT).write_text(json.dumps(about | {"digest": _digest(folder, about)}))


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


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (lambda f: (f / ABOUT).write_text("[]"), "cannot be read .* train again or copy it again"),
        (lambda f: edit(f, label_names=["a", "b", "c"]), "for 2 labels, and there are 3"),
        (lambda f: edit(f, max_tokens=99), "MAX_TOKENS is 99, but .* has 18 positions; set it to"),
        (lambda f: edit(f, fingerprint="0" * 64), "is not the base model of"),
        (lambda f: edit(f, method="lorra"), "unknown method 'lorra'"),
        (lambda f: edit(f, hyperparameters={"rnk": 4}), "lora has no hyperparameter 'rnk'"),
        (other_base, "is not the base model of"),
        (other_heads, "is not the base model of"),
    ],
)
def test_a_damaged_or_foreign_checkpoint_is_refused(checkpoint, damage, line):
    folder, _ = checkpoint()
    damage(folder)
    with pytest.raises(BadInput, match=line) as error:
        load_finetuned(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["checkpoint.json", "trained.safetensors"])
def test_a_damaged_byte_or_a_file_that_is_cut_short_is_refused(checkpoint, name):
    folder, _ = checkpoint()
    path, whole = folder / name, (folder / name).read_bytes()
    damaged = [whole[: len(whole) // 2], whole[:-3], b""]
    for place in range(0, len(whole), max(1, len(whole) // 20)):
        damaged.append(whole[:place] + bytes([whole[place] ^ 0x81]) + whole[place + 1 :])
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(BadInput) as error:
            load_finetuned(folder)
        assert "\n" not in str(error.value)


def test_a_value_that_was_changed_by_hand_is_refused(checkpoint):
    folder, _ = checkpoint()
    whole = json.loads((folder / ABOUT).read_text())
    for name, value in (("alpha", math.nan), ("rank", True), ("rslora", "false"), ("blocks", 1)):
        choice = whole["hyperparameters"] | {name: value}
        (folder / ABOUT).write_text(json.dumps(whole | {"hyperparameters": choice}))
        with pytest.raises(BadInput, match="are damaged, do not belong together, or are of"):
            load_finetuned(folder)


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
        (lambda t: t.update(extra=torch.zeros(1)), "has, beyond what is trained, extra"),
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
def test_wrong_tensors_are_refused_and_nothing_is_loaded(change, line):
    model = trained("lora", tiny())
    tensors = {name: p.detach().clone() for name, p in model.trainable_parameters().items()}
    change(tensors)
    fresh = METHODS["lora"](tiny()).eval()
    before = fresh(*tokens())
    with pytest.raises(BadInput, match=line):
        copy_tensors(fresh, tensors, "the file")
    assert torch.equal(fresh(*tokens()), before)


def test_any_number_of_texts_is_computed_in_micro_batches(checkpoint, monkeypatch):
    _, finetuned = checkpoint()
    sizes, encode = [], finetuned.model.encode
    monkeypatch.setattr("modeling.finetuned.AT_ONCE", 24)
    monkeypatch.setattr(
        finetuned.model, "encode", lambda ids, mask: sizes.append(ids.shape) or encode(ids, mask)
    )
    texts = [" ".join(["good", "film"] * (i % 5)) for i in range(50)]
    probabilities = finetuned.probabilities(texts)
    assert len(sizes) > 5 and all(N * T <= 24 for N, T in sizes)
    assert probabilities.sum(1) == pytest.approx(torch.ones(50), abs=1e-6)
    alone = torch.cat([finetuned.probabilities([text]) for text in texts[:7]])
    assert torch.allclose(probabilities[:7], alone, atol=1e-6)
    assert finetuned([]) == []


def test_predict_writes_labels_and_probabilities_of_a_table(checkpoint, tmp_path, capsys):
    folder, finetuned = checkpoint()
    table, output = tmp_path / "texts.csv", tmp_path / "p.csv"
    pd.DataFrame({"n": range(5), "body": [*TEXTS, ""]}).to_csv(table, index=False)
    given = [str(folder), str(table), "--output", str(output)]
    assert predict.main([*given, "--text-column", "body"]) == 0
    printed = capsys.readouterr()
    assert "5 texts" in printed.out and "5/5" in printed.err
    found = pd.read_csv(output)
    assert found.columns.tolist() == ["label", "probability_bad", "probability_good"]
    assert found["label"].tolist() == [label for label, _ in finetuned([*TEXTS, ""])]
    expected = finetuned.probabilities([*TEXTS, ""])
    assert found.iloc[:, 1:].to_numpy() == pytest.approx(expected.numpy(), abs=1e-6)
    assert predict.main([*given, "--text-column", "body"]) == 2
    assert "p.csv exists; move it" in capsys.readouterr().err
    output.unlink()
    assert predict.main(given) == 2
    assert "has no column 'text'; it has 'n', 'body'; give --text-column" in capsys.readouterr().err
    assert predict.main([str(tmp_path), *given[1:], "--text-column", "body"]) == 2
    assert "has no checkpoint.json" in capsys.readouterr().err and not output.exists()


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
