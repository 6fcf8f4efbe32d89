"""A checkpoint holds the trained tensors alone, brings them back to the last bit, or is refused."""

import json
import math
import os
import re
import shutil
from functools import partial
from pathlib import Path

import hostile
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import SPECIAL, WORDS, randomised, tiny, tokens
from safetensors.torch import load_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForSequenceClassification as Classifier
from transformers import AutoTokenizer, PreTrainedTokenizerFast

import hardware
import modeling.finetuned
from boundary import BadInput
from data_utils import clean, encoder_folder, tokenise
from modeling import METHODS, Method, fit_probe, fit_tfidf, load_encoder, load_finetuned
from modeling.checkpoint import ABOUT, TENSORS, read_about, save_checkpoint, save_combination
from modeling.checkpoint import WORDS as VOCABULARY
from modeling.finetuned import EncoderClassifier, Finetuned
from modeling.inference import features, predict

pytestmark = pytest.mark.usefixtures("in_float32_on_the_cpu")


def trained(method, base, **choice):
    return randomised(METHODS[method](base, **choice))


def saved(model_folder, folder, classifier, truncation="left"):
    """Write a checkpoint, as a run with MAX_TOKENS = 12 does; `classifier(pretrained)` makes it."""
    encoder = load_encoder(str(model_folder), ["bad", "good"], 12, truncation)
    about = {"base_model": str(model_folder), "encoder_digest": encoder.digest}
    about |= {"label_names": ["bad", "good"], "max_tokens": 12, "truncation": truncation}
    about |= {"text_column": "body", "pooling": "layers"}
    classifier = classifier(encoder.pretrained)
    save_checkpoint(classifier, folder, about)
    return folder, classifier, encoder.tokenizer


@pytest.fixture
def checkpoint(model_folder, tmp_path):
    """A function that trains a method on the tiny base and writes its checkpoint."""

    def make(method="lora", truncation="left", name="c", **choice):
        fit = partial(trained, method, **choice)
        folder, model, tokenizer = saved(model_folder, tmp_path / name, fit, truncation)
        modeling.use_fast_attention(model.pretrained, torch.device("cpu"))
        return folder, Finetuned(EncoderClassifier(model, tokenizer), read_about(folder))

    return make


@pytest.fixture
def baseline(model_folder, tmp_path):
    """A function that fits a baseline to TEXTS and writes its checkpoint."""

    def make(kind):
        def fit(pretrained):
            if kind == "tfidf":
                return fit_tfidf(TEXTS * 2, [0, 1, 0, 1] * 2, classes=2)
            model = METHODS["head"](pretrained, "layers").eval()
            tokenizer = load_encoder(str(model_folder), ["bad", "good"], 12).tokenizer
            split = tokenise(TEXTS * 2, None, tokenizer)
            return fit_probe(features(model, split, 99), [0, 1, 0, 1] * 2)

        return saved(model_folder, tmp_path / kind, fit)[0]

    return make


LONG = "good film " * 4 + "the actor was awful and the plot was very dull " * 2  # 26 words
TEXTS = [LONG, "a good film", "the plot was very dull and the actor awful", "a great film"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("pooling", ["first", "layers"])
def test_a_checkpoint_classifies_as_the_model_did(checkpoint, method, pooling):
    folder, finetuned = checkpoint(method, pooling=pooling)
    loaded = load_finetuned(folder)
    assert loaded.classifier.model.pooling == pooling and loaded(TEXTS) == finetuned(TEXTS)
    models = [classify.classifier.model for classify in (loaded, finetuned)]
    assert torch.equal(models[0](*tokens()), models[1](*tokens()))  # to the last bit
    assert load_file(folder / TENSORS).keys() == models[1].trainable_parameters().keys()
    assert models[0].hyperparameters == models[1].hyperparameters  # tuples, which JSON has not


def test_a_checkpoint_of_tfidf_classifies_as_what_was_fitted(baseline):
    folder = baseline("tfidf")
    fitted = fit_tfidf(TEXTS * 2, [0, 1, 0, 1] * 2, classes=2).log_probabilities(TEXTS)
    assert load_finetuned(folder).probabilities(TEXTS).log() == pytest.approx(fitted, abs=1e-6)
    assert sorted(path.name for path in folder.iterdir()) == sorted([ABOUT, TENSORS, VOCABULARY])
    assert "base_model" not in json.loads((folder / ABOUT).read_text())


def test_a_checkpoint_of_a_probe_is_the_encoder_and_a_linear_map(baseline, model_folder):
    folder = baseline("probe")
    tensors = {name: tensor.double() for name, tensor in load_file(folder / TENSORS).items()}
    loaded = load_encoder(str(model_folder), ["bad", "good"], 12)
    encoder = METHODS["head"](loaded.pretrained, "layers").eval()
    batch = loaded.tokenizer(TEXTS, truncation=True, padding=True, return_tensors="pt")
    x = encoder.encode(batch["input_ids"], batch["attention_mask"]).flatten(1).double()
    expected = (x @ tensors["weight"].T + tensors["bias"]).softmax(1)
    assert load_finetuned(folder).probabilities(TEXTS) == pytest.approx(expected, abs=1e-5)


def test_a_combination_is_the_normalised_mean_of_log_probabilities(checkpoint, baseline, tmp_path):
    parts = [checkpoint("lora")[0], baseline("tfidf")]
    both = tmp_path / "both"
    parts[0] = shutil.copytree(parts[0], both / "lora")  # one inside, as a final model has them
    paths = [os.path.relpath(part, both) for part in parts]
    save_combination(both, Method.parse("lora+tfidf", {}), paths)
    first, second = (load_finetuned(part).probabilities(TEXTS) for part in parts)
    means = (first * second).sqrt()
    expected = means / means.sum(1, keepdim=True)
    classify = load_finetuned(Path(shutil.move(tmp_path, f"{tmp_path}-moved")) / "both")
    assert classify.probabilities(TEXTS) == pytest.approx(expected, abs=1e-6)
    assert classify.label_names == ["bad", "good"] and classify.about.text_column == "body"
    (link := Path(f"{tmp_path}-link")).symlink_to(Path(f"{tmp_path}-moved") / "both")
    assert load_finetuned(link)(TEXTS) == classify(TEXTS)  # a part lies beside what it leads to


def test_the_folder_of_an_experiment_stands_for_its_final_model(checkpoint, tmp_path):
    folder, finetuned = checkpoint(name="final")
    assert load_finetuned(tmp_path)(TEXTS) == finetuned(TEXTS)
    folder.rename(tmp_path / "lora-seed0")
    with pytest.raises(BadInput, match="has no final model; give one of its runs: lora-seed0"):
        load_finetuned(tmp_path)
    for folder in (tmp_path / "empty", tmp_path / "absent"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(BadInput, match="has no checkpoint.json; expected the folder of a run"):
            load_finetuned(folder)


def test_a_bundled_encoder_is_found_by_its_short_name_wherever_it_is(tmp_path, monkeypatch):
    folder, _, _ = saved(encoder_folder("minilm"), tmp_path / "c", METHODS["lora"])
    edit(folder, base_model="minilm")
    moved = shutil.copytree(encoder_folder("minilm"), tmp_path / "another environment")
    expected = load_finetuned(folder)(TEXTS)
    monkeypatch.setattr("modeling.loading.encoder_folder", lambda name: moved)
    assert load_finetuned(folder)(TEXTS) == expected


@pytest.mark.parametrize("truncation", ["left", "right"])
def test_long_texts_are_truncated_as_in_training(checkpoint, truncation):
    folder, finetuned = checkpoint(truncation=truncation)
    words = LONG.split()
    part = " ".join(words[-10:] if truncation == "left" else words[:10])  # with [CLS], [SEP]: 12
    for classify in (finetuned, load_finetuned(folder)):
        assert classify([LONG]) == classify([part])
        assert classify.classifier.tokenizer.truncation_side == truncation
        assert classify.classifier.tokenizer.model_max_length == 12
    other = " ".join(words[:10] if truncation == "left" else words[-10:])
    assert finetuned([LONG]) != finetuned([other])


RAW = ["  a good film ", "dull<br />plot", "a<br<br>>b", "", " <br/> ", "a < b", "good\nfilm\t"]


def test_texts_are_cleaned_and_tokenised_as_in_training(checkpoint):
    """HTML, surrounding space and empty texts are what a task's texts are made of."""
    _, classify = checkpoint()
    split = tokenise([clean(text) for text in RAW], None, classify.classifier.tokenizer)
    expected = predict(classify.classifier.model, split, 99).softmax(1)
    expected[[not clean(text) for text in RAW]] = torch.nan
    assert expected.isnan().any() and not expected.isnan().all()
    assert classify.probabilities(RAW) == pytest.approx(expected, abs=1e-6, nan_ok=True)
    assert classify("dull<br />plot") == classify("dull plot") != classify("dull<br / >plot")


def test_a_text_gives_a_pair_and_several_texts_give_a_list(checkpoint):
    _, classify = checkpoint()
    pairs = classify(TEXTS)
    assert [len(pair) for pair in pairs] == [2] * len(TEXTS)
    column = pd.Series(TEXTS, index=[5, 3, 8, 1])
    several = tuple(TEXTS), column, column.astype("string"), pd.Index(TEXTS), np.array(TEXTS)
    assert all(classify(texts) == pairs for texts in several)
    assert classify(np.array(TEXTS[1])) == [(pairs[1][0], pytest.approx(pairs[1][1], abs=1e-6))]
    label, probability = classify(TEXTS[1])
    assert (label, probability) == (pairs[1][0], pytest.approx(pairs[1][1], abs=1e-6))
    missing = pd.Series([TEXTS[0], None, np.nan, pd.NA, " "], dtype=object)
    assert [label for label, _ in classify(missing)] == [pairs[0][0], *[""] * 4]
    assert classify([]) == [] and classify.probabilities([]).shape == (0, 2)


def test_what_is_no_text_is_one_line(checkpoint):
    _, classify = checkpoint()
    frame = pd.DataFrame({"text": TEXTS})
    for texts, which in ((frame, "0 is DataFrame"), (["a", 1.5], "1 is float")):
        with pytest.raises(BadInput, match=f"text {which}; expected a text, or a list, column"):
            classify(texts)


def test_any_number_of_texts_is_computed_in_micro_batches_by_tokens(checkpoint, monkeypatch):
    _, finetuned = checkpoint()
    texts = [" ".join(["good", "film"] * (i % 5)) for i in range(70)]
    model = finetuned.classifier.model
    encode, shapes, done = model.encode, [], []
    monkeypatch.setattr(model, "encode", lambda *b: shapes.append(b[0].shape) or encode(*b))
    monkeypatch.setattr(modeling.finetuned, "tokens_at_once", lambda *given, training: 80)
    monkeypatch.setattr(modeling.finetuned, "AT_ONCE", 30)
    probabilities = finetuned.probabilities(texts, done.append)
    assert done == [30, 30, 10] and sum(N for N, T in shapes) == 70
    assert all(N * T <= 80 for N, T in shapes) and max(N for N, T in shapes) > 15
    sums = torch.tensor([1.0 if text else torch.nan for text in texts])
    assert probabilities.sum(1) == pytest.approx(sums, abs=1e-6, nan_ok=True)
    alone = torch.cat([finetuned.probabilities([text]) for text in texts])
    assert torch.allclose(probabilities, alone, atol=1e-6, equal_nan=True)


def test_a_classifier_computes_in_the_type_of_training_with_fast_attention(checkpoint, monkeypatch):
    loaded, cast = load_finetuned(checkpoint()[0]), []
    model = loaded.classifier.model
    monkeypatch.setattr(hardware, "compute_type", lambda device: torch.bfloat16)
    encoder = model.pretrained.base_model
    encoder.register_forward_pre_hook(lambda *_: cast.append(torch.is_autocast_enabled("cpu")))
    assert len(loaded(TEXTS)) == len(TEXTS) and cast == [True]
    assert model.pretrained.config._attn_implementation == "plain"


def decoder(folder, ends_texts=False):
    """A folder with a tiny Llama; its tokenizer has no padding, and may end texts with [SEP]."""
    tiny("llama").float().save_pretrained(folder)
    words = Tokenizer(WordLevel({word: i for i, word in enumerate(SPECIAL + WORDS)}, "[UNK]"))
    words.pre_tokenizer = Whitespace()
    if ends_texts:
        words.post_processor = TemplateProcessing("$A [SEP]", special_tokens=[("[SEP]", 3)])
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="[SEP]").save_pretrained(folder)
    return folder


def code_of(folder):
    """The code in the README of what was exported."""
    return re.search(r"^```python\n(.*?)^```", (folder / "README.md").read_text(), re.S | re.M)[1]


def test_a_decoder_whose_tokenizer_has_no_padding_classifies_alone_and_in_a_batch(tmp_path):
    base = decoder(tmp_path / "base")
    assert AutoTokenizer.from_pretrained(base).pad_token is None
    folder, model, tokenizer = saved(base, tmp_path / "c", lambda b: trained("lora", b))
    assert tokenizer.pad_token == "[SEP]" and model.pretrained.config.pad_token_id == 3
    classify = load_finetuned(folder)
    together = classify(TEXTS)
    for text, (label, probability) in zip(TEXTS, together, strict=True):
        assert classify([text, " <br> "])[0] == (label, pytest.approx(probability, abs=1e-6))
    ((label, probability),) = classify(["<br>"])  # without any token
    assert label == "" and math.isnan(probability)
    classify.export(tmp_path / "p", format="transformers")
    exported = Classifier.from_pretrained(tmp_path / "p").eval()
    batch = tokenizer(TEXTS, truncation=True, padding=True, return_tensors="pt")
    logits = exported(**{k: batch[k] for k in ("input_ids", "attention_mask")}).logits
    assert torch.allclose(logits.softmax(1), classify.probabilities(TEXTS), atol=1e-5)
    assert exported.config.id2label == {0: "bad", 1: "good"}


def edit(folder, **changes):
    hostile.edit(folder / ABOUT, **changes)


def base_of(folder):
    return Path(json.loads((folder / ABOUT).read_text())["base_model"])


def another(change):
    """The base model in another folder, of which `change` has changed a thing."""

    def damage(folder):
        base = Path(shutil.copytree(base_of(folder), folder.parent / "another"))
        change(base)
        edit(folder, base_model=str(base))

    return damage


def in_json(file, **changes):
    return lambda base: hostile.edit(base / file, **changes)


def other_pooler(tensors):
    tensors["bert.pooler.dense.bias"].add_(1)


def other_vocabulary(base):
    rules = (base / "tokenizer.json").read_text()
    (base / "tokenizer.json").write_text(rules.replace('"good"', '"goof"'))


OTHER = "is not the encoder that .* was trained with: its config, tokenizer or weights differ"
DAMAGED = "delete its folder to make that run anew"


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (lambda f: edit(f, base_model="/gone"), r"/gone does not exist; give .* base \(--base\)$"),
        (lambda f: (f / ABOUT).write_text("[]"), f"checkpoint.json cannot be read .*{DAMAGED}"),
        (lambda f: edit(f, parts=["."]), f"checkpoint.json cannot be read .*{DAMAGED}"),
        (lambda f: edit(f, method="lorra"), "the checkpoint .* cannot be read .*lorra"),
        (lambda f: edit(f, hyperparameters={"rnk": 4}), "the checkpoint .* cannot be read .*rnk"),
        (another(lambda base: hostile.edit_tensors(base, other_pooler)), OTHER),
        (another(in_json("config.json", hidden_act="relu")), OTHER),
        (another(other_vocabulary), OTHER),
        (lambda f: (f / TENSORS).write_bytes(b"x" * 99), f"{TENSORS} cannot be read .*{DAMAGED}"),
    ],
)
def test_a_damaged_or_foreign_checkpoint_is_refused(checkpoint, damage, line):
    folder, _ = checkpoint()
    damage(folder)
    with pytest.raises(BadInput, match=line):
        load_finetuned(folder)


def test_a_damaged_file_of_a_baseline_is_named(baseline):
    folder = baseline("tfidf")
    (folder / VOCABULARY).write_text("[]")
    with pytest.raises(BadInput, match=f"{VOCABULARY} cannot be read .*{DAMAGED}"):
        load_finetuned(folder)


def test_a_checkpoint_that_computes_no_numbers_is_refused(checkpoint):
    folder, _ = checkpoint()
    values = json.loads((folder / ABOUT).read_text())["hyperparameters"]
    edit(folder, hyperparameters=values | {"alpha": 1e300})
    with pytest.raises(BadInput, match="computes no numbers for a text"):
        load_finetuned(folder)(TEXTS)


def test_a_tilde_is_the_users_folder(checkpoint, tmp_path, monkeypatch):
    folder, finetuned = checkpoint()
    shutil.copytree(base_of(folder), tmp_path / "base")
    edit(folder, base_model="elsewhere")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    loaded = load_finetuned(f"~/{folder.name}", base="~/base")
    assert loaded(TEXTS) == finetuned(TEXTS)
    loaded.export("~/exported", format="transformers")
    assert (tmp_path / "exported" / "config.json").exists()


def test_tensors_of_another_method_are_refused_and_none_is_loaded():
    tensors = trained("lora", tiny()).trainable_parameters()
    fewer = {name: tensor for name, tensor in tensors.items() if name != "classifier.weight"}
    longer = tensors | {"classifier.bias": torch.zeros(3)}
    fresh = METHODS["lora"](tiny()).eval()
    before = fresh(*tokens())
    for given, line in ((fewer, r"weight \(2, 8\)"), (longer, r"bias \(2,\)")):
        with pytest.raises(BadInput, match=f"see classifier.{line}"):
            fresh.load_trained(given, "the file")
    assert torch.equal(fresh(*tokens()), before)
