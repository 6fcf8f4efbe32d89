"""One's own texts: from a file to an answer, a classifier, and labels for new texts."""

import json
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import reviews_frame
from scipy.special import softmax

import finetuning
from evaluation import report
from experiment import parse, setup
from experiment.data import Data
from experiment.runs import LOCK, held
from modeling import load_finetuned, predict
from modeling.checkpoint import read_about

pytestmark = pytest.mark.usefixtures("without_figures", "on_the_cpu")


@pytest.fixture(scope="module")
def tickets(model_folder, tmp_path_factory):
    """A file as people have it, and the folder of the comparison that it was asked for."""
    root = tmp_path_factory.mktemp("own")
    frame = reviews_frame(60).rename(columns={"text": "message", "label": "queue"})
    frame["queue"] = frame["queue"].map({0: "01", 1: "1"})
    frame["customer"] = [f"customer {i // 2}" for i in range(60)]
    frame["message"] = "<br />" + frame["message"] + "  "
    frame.to_csv(root / "tickets.csv", index=False)
    given = ["--dataset", root / "tickets.csv", "--model", model_folder, "--results", root]
    given += ["--max-tokens", "12", "--epochs", "2", "--head-epochs-factor", "1", "--blocks", "1"]
    given += ["--text-column", "message", "--label-column", "queue", "--group-column", "customer"]
    given += ["--methods", "tfidf", "lora", "lora+tfidf", "--learning-rates", "lora=0.01"]
    given = [str(part) for part in given]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "draw", lambda results: {})
        assert finetuning.main(given) == 0
    return root, given


def predictions(folder, name):
    paths = [folder / f"{name}-seed{fold}" / "predictions.csv" for fold in range(5)]
    parts = [pd.read_csv(path).assign(fold=fold) for fold, path in enumerate(paths)]
    return pd.concat(parts).sort_values("row")


def test_every_text_is_tested_once_and_no_group_is_in_two_splits(tickets):
    folder, frame = tickets[0] / "tickets", pd.read_csv(tickets[0] / "tickets.csv")
    wrong = pd.read_csv(folder / "misclassified.csv")  # the header of a CSV file is row 1
    expected = frame["message"][wrong["row"] - 2].str.removeprefix("<br />").str.strip()
    assert len(wrong) and wrong["text"].tolist() == expected.tolist()
    about = json.loads((folder / "experiment.json").read_text())
    assert about["data"]["folds"] == 5 and about["label_names"] == ["01", "1"]
    for name in ("tfidf", "lora", "lora+tfidf"):
        table = predictions(folder, name)
        assert table["row"].tolist() == list(range(60))
        fold = table["fold"].to_numpy()
        of_fold = [part["group"].to_numpy() for _, part in table.groupby("fold")]
        assert all((each == np.arange(len(each)) // 2).all() for each in of_fold)
        assert np.array_equal(fold[::2], fold[1::2]) and set(fold) == set(range(5))


def test_a_combination_is_the_normalised_mean_of_its_parts_log_probabilities(tickets):
    folder = tickets[0] / "tickets"
    columns = ["logit_01", "logit_1"]
    parts = [predictions(folder, name)[columns].to_numpy() for name in ("lora", "tfidf")]
    means = np.prod([softmax(part, axis=1) for part in parts], axis=0) ** 0.5
    expected = np.log(means / means.sum(axis=1, keepdims=True))
    table = predictions(folder, "lora+tfidf")
    np.testing.assert_allclose(table[columns].to_numpy(), expected, atol=1e-5)


def test_a_combination_costs_what_its_parts_cost_their_frozen_blocks_too(tickets):
    runs = pd.read_csv(tickets[0] / "tickets" / "runs.csv").set_index(["method", "seed"])
    costs = runs[["training_seconds", "shared_seconds", "trainable_parameters"]].fillna(0)
    for seed in range(5):
        parts = costs.loc[("lora", seed)] + costs.loc[("tfidf", seed)]
        assert parts["shared_seconds"] > 0 and parts["trainable_parameters"] > 0
        np.testing.assert_allclose(costs.loc[("lora+tfidf", seed)], parts)


@pytest.mark.parametrize("method", ["probe", "lora+tfidf"])
def test_the_final_model_sees_all_texts_and_classifies_new_ones(method, tickets, tmp_path, capsys):
    root, given = tickets
    results = tmp_path / "results"
    assert finetuning.main([*given, "--results", str(results), "--final", method]) == 0
    final = results / "tickets" / "final"
    assert f"python -m modeling.predict {final}" in capsys.readouterr().out
    data = json.loads((final / "experiment.json").read_text())["data"]
    assert data["train"] + data["validation"] == 60 and data["test"] == 0
    classify = load_finetuned(final)
    label, probability = classify("a good film")
    assert label in ("01", "1") and 0.5 <= probability <= 1
    new = pd.DataFrame({"id": ["007", "8"], "message": ["<br />a good film ", "awful"]})
    new.to_csv(tmp_path / "new.csv", index=False)
    output = tmp_path / "out.csv"
    assert predict.main([str(final), str(tmp_path / "new.csv"), "--output", str(output)]) == 0
    table = pd.read_csv(output, dtype=str)
    assert table["id"].tolist() == ["007", "8"] and table["label"][0] == label
    assert float(table[f"probability_{label}"][0]) == pytest.approx(probability, abs=1e-5)


def test_the_last_method_asked_for_is_the_final_model_and_the_others_stay(
    tickets, tmp_path, capsys
):
    given = [*tickets[1], "--results", str(tmp_path), "--final"]
    final = tmp_path / "tickets" / "final"
    for method in ("probe(pooling='first')", "probe+tfidf", "tfidf", "probe+tfidf"):
        assert finetuning.main([*given, method]) == 0
        assert read_about(final).method == method
        assert load_finetuned(final)("a good film")
    given_and_chosen = [
        read_about(final / f"probe{end}-seed0").pooling for end in ("-pooling=first", "")
    ]
    assert given_and_chosen == ["first", "layers"]
    runs = {"probe-pooling=first-seed0", "probe-seed0", "tfidf-seed0", "probe+tfidf-seed0"}
    assert {path.parent.name for path in final.glob("*/checkpoint.json")} == runs
    assert finetuning.main([*given[:-1], "--methods", "tfidf", "probe"]) == 0  # afterwards
    assert len(pd.read_csv(tmp_path / "tickets" / "runs.csv")) == 10
    assert finetuning.main([*given[:-1], "--methods", "tfidf", "--fresh"]) == 0
    moved = tmp_path / "tickets" / "earlier-1" / "final"
    assert f", the final model in {moved}\n" in capsys.readouterr().out
    assert load_finetuned(moved)("a good film")


def test_a_final_model_of_other_data_or_constants_is_refused_or_moved(tickets, tmp_path, capsys):
    given = [*tickets[1], "--results", str(tmp_path), "--final", "tfidf"]
    final = tmp_path / "tickets" / "final"
    assert finetuning.main(given) == 0
    (final / "mine").mkdir()
    (final / "mine" / "run.json").write_text("mine")
    assert finetuning.main([*given, "--max-tokens", "9"]) == 2
    assert "MAX_TOKENS = 12, not 9" in capsys.readouterr().err
    assert finetuning.main([*given, "--max-tokens", "9", "--fresh"]) == 0
    assert load_finetuned(final)("a good film") and not (final / "mine").exists()
    assert load_finetuned(final / "earlier-1")("a good film")
    assert (final / "earlier-1" / "mine" / "run.json").read_text() == "mine"


def test_texts_of_a_folders_files_are_told_apart(tickets, tmp_path, capsys):
    frame = pd.read_csv(tickets[0] / "tickets.csv", dtype=str)
    parts = {"train": frame[:40], "validation": frame[40:].assign(queue="1")}  # and so errors
    for name, part in parts.items():
        part.to_csv(tmp_path / f"{name}.csv", index=False)
    given = [*tickets[1], "--dataset", str(tmp_path), "--results", str(tmp_path / "results")]
    assert finetuning.main([*given, "--folds", "4", "--methods", "tfidf"]) == 0
    assert re.search(r"\d+ to \d+ train, .*, 14 to 16 test\n", capsys.readouterr().out)
    (path,) = tmp_path.rglob("misclassified.csv")
    found = pd.read_csv(path)
    assert found["row"].str.startswith("validation ").any()
    for row, text in zip(found["row"].str.split(), found["text"], strict=True):
        assert text in parts[row[0]]["message"].iloc[int(row[1]) - 2]


def test_what_a_link_leads_to_stays_where_it_is(tickets, tmp_path):
    given = [*tickets[1], "--results", str(tmp_path)]
    assert finetuning.main([*given, "--final", "tfidf"]) == 0
    (tmp_path / "tickets" / "final").rename(tmp_path / "elsewhere")
    (tmp_path / "tickets" / "final").symlink_to(tmp_path / "elsewhere")
    assert finetuning.main([*given, "--methods", "tfidf"]) == 0
    assert finetuning.main([*given, "--methods", "tfidf", "--fresh"]) == 0
    assert (tmp_path / "elsewhere" / "tfidf-seed0" / "run.json").exists()


def test_a_final_model_says_which_constants_its_comparison_had_otherwise(tickets, tmp_path, capsys):
    given = [*tickets[1], "--results", str(tmp_path)]
    assert finetuning.main([*given, "--methods", "tfidf", "probe", "--max-tokens", "9"]) == 0
    short = [*given, "--final", "probe+tfidf", "--folds", "4"]
    line = f"warning: the comparison in {tmp_path}/tickets had MAX_TOKENS = 9, not 12"
    for option, expected in (("12", [line]), ("9", [])):
        capsys.readouterr()
        assert finetuning.main([*short, "--max-tokens", option, "--fresh"]) == 0
        printed = capsys.readouterr().out.splitlines()
        assert [line for line in printed if "had" in line] == expected
    (tmp_path / "tickets" / "tfidf-seed0" / "run.json").write_text("[")
    # A damaged comparison hinders no final model.
    assert finetuning.main([*short, "--max-tokens", "9"]) == 0
    assert "was not looked at: " in capsys.readouterr().out


def test_a_comparison_waits_for_no_final_model_and_combines_what_it_can(tickets, tmp_path, capsys):
    given = [*tickets[1], "--results", str(tmp_path)]
    some = [*given, "--methods", "tfidf", "probe", "probe+tfidf", "--seeds", "0"]
    assert finetuning.main([*some, "1"]) == 0
    folder = tmp_path / "tickets"
    shutil.rmtree(folder / "probe+tfidf-seed0")
    (folder / "runs.csv").unlink()
    with held(folder / "probe-seed1" / LOCK):  # its process will write the page
        assert finetuning.main(some) == 0
        assert (folder / "probe+tfidf-seed0" / "run.json").exists()
        assert not (folder / "runs.csv").exists()
        assert finetuning.main([*given, "--final", "tfidf"]) == 0
    assert load_finetuned(folder / "final")("a good film")
    with held(folder / "final" / "tfidf-seed0" / LOCK):
        assert finetuning.main(some) == 0
    assert (folder / "runs.csv").exists()


def test_texts_that_the_encoder_does_not_know_are_warned_of_and_written(tickets, tmp_path, capsys):
    words = {"ru": ("хорошо и быстро", "плохо и долго"), "zh": ("很好很快", "很慢很差")}
    words |= {"en": ("good and fast", "bad and late"), "fr": ("très bien, hélas", "très tard")}
    for language, (good, bad) in words.items():
        rows = [{"text": f"{(good, bad)[n % 2]} {n}", "label": "ab"[n % 2]} for n in range(40)]
        pd.DataFrame(rows).to_csv(tmp_path / f"{language}.csv", index=False)
        given = ["--dataset", tmp_path / f"{language}.csv", "--results", tmp_path]
        given += ["--methods", "tfidf", "--model", "minilm"]
        assert finetuning.main([str(part) for part in given]) == 0
        about = json.loads((tmp_path / language / "experiment.json").read_text())
        told = [line for line in about["data"]["warnings"] if "MODEL minilm" in line]
        assert all(f"warning: {line}" in capsys.readouterr().out for line in told)
        assert len(told) == (language in ("ru", "zh"))
        for line in told:  # Russian is known by its letters
            share = re.search(r"English, and .* other letters; (\d+)% of .* --model", line)[1]
            assert (int(share) > 50) == (language == "zh") and int(share) <= 100
    given = [*tickets[1], "--dataset", str(tmp_path / "fr.csv"), "--methods", "tfidf"]
    given[given.index("message")], given[given.index("queue")] = "text", "label"
    place = given.index("--group-column")
    assert finetuning.main(given[:place] + given[place + 2 :]) == 0
    assert "100% of the texts' tokens are unknown to MODEL" in capsys.readouterr().out  # a tiny one


def test_many_texts_on_a_cpu_are_warned_of_before_training(tickets, tmp_path, monkeypatch, capsys):
    given = [*tickets[1], "--results", str(tmp_path), "--methods"]
    line = "38 texts may take hours on a CPU; first you may give\n  --labels 2000 --test-examples"
    for most, methods in ((37, ["lora"]), (38, ["lora"]), (37, ["tfidf"])):
        monkeypatch.setattr(setup, "MANY", most)
        setup.prepare(parse(vars(finetuning), [*given, *methods, "--fresh"]))
        assert (line in capsys.readouterr().out) == ((most, methods) == (37, ["lora"]))


@pytest.mark.parametrize(
    ("unknown", "special", "ids", "share"),
    [(0, [], [0, 5, 5], "33%"), (3, [1, 2, 3], [1, 3, 7, 7, 7, 2], "25%"), (None, [1], [1, 5], "")],
)
def test_the_share_of_unknown_tokens_is_of_those_that_are_not_special(unknown, special, ids, share):
    tokenizer = SimpleNamespace(unk_token_id=unknown, all_special_ids=special)
    split = SimpleNamespace(token_ids=torch.tensor(ids, dtype=torch.int32), texts=["good"])
    data = SimpleNamespace(encoder=SimpleNamespace(tokenizer=tokenizer), texts=split)
    data.settings, data.task = SimpleNamespace(model="a"), SimpleNamespace(warnings=[])
    told = Data.warnings.func(data)
    assert [line.split()[0] for line in told] == [share] * bool(share)
