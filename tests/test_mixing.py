"""Runs of one folder are of one experiment: other data, constants or methods are not mixed in."""

import json
import re
import shlex
import shutil

import hostile
import pytest
from conftest import files_of, raising, reviews_frame

import finetuning

pytestmark = pytest.mark.usefixtures("without_figures")


@pytest.mark.parametrize("changed", ["data", "encoder"])
def test_other_texts_or_weights_of_the_same_name_are_not_mixed(
    changed, arguments, model_folder, reviews_csv, tmp_path, capsys
):
    copy = shutil.copytree(model_folder, tmp_path / "model")
    given = arguments("one", "--model", copy, "--methods", "tfidf")
    assert finetuning.main(given) == 0
    before = files_of(tmp_path / "one")
    if changed == "data":
        reviews_csv.write_text(reviews_csv.read_text().replace("good", "fine"))
    else:
        hostile.edit_tensors(copy, lambda tensors: tensors["classifier.bias"].add_(1))
    assert finetuning.main([*given, "head"]) == 2
    assert files_of(tmp_path / "one") == before
    assert f"tfidf-seed0 has different {changed}" in capsys.readouterr().err


def test_one_methods_seeds_have_the_same_hyperparameters(arguments, capsys):
    given = arguments("one", "--methods", "lora")
    assert finetuning.main([*given, "--seeds", "0"]) == 0
    for other in (["--lora-rank", "2"], ["--learning-rates", "lora=0.1"]):
        assert finetuning.main([*given, "--seeds", "1", *other]) == 2
        assert "lora-seed0 has " in capsys.readouterr().err
    assert finetuning.main([*given, "--seeds", "1"]) == 0


def test_a_start_with_more_methods_keeps_the_commands_that_make_the_page(arguments, tmp_path):
    """Also where the sign that joins them is in a file's name."""
    reviews_frame(40).to_csv(path := tmp_path / "a && b.csv", index=False)
    given = ["--dataset", str(path), "--folds", "2", "--seeds", "0", "1", "--methods"]
    for method in ("tfidf", "probe", "tfidf"):
        assert finetuning.main(arguments("one", *given, method)) == 0
    about = json.loads((tmp_path / "one" / "tiny" / "experiment.json").read_text())
    assert about["constants"]["methods"] == ["tfidf", "probe"]
    words = shlex.split(about["command"])
    assert words.count("&&") == 1 and words[-1] == "probe"
    assert words[words.index("&&") - 1] == "tfidf"
    page = (tmp_path / "one" / "tiny" / "report.md").read_text()
    command = re.search(r"This trains .*\n\n +(.*)", page)[1]
    assert str(path) in shlex.split(command) and "&&" not in shlex.split(command)


def test_a_start_that_left_nothing_is_no_part_of_the_command(arguments, monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        patch.setattr(finetuning, "train", raising(FloatingPointError("the loss is nan at step 1")))
        given = arguments("one", "--methods", "lora", "--max-tokens", "9", "--seeds", "5")
        assert finetuning.main(given) == 1
    assert finetuning.main(arguments("one", "--methods", "head")) == 0
    about = json.loads((tmp_path / "one" / "tiny" / "experiment.json").read_text())
    assert "&&" not in about["command"] and about["command"].endswith("head")
    assert about["constants"]["methods"] == ["head"] and about["constants"]["seeds"] == [0]


def test_runs_without_their_experiments_file_are_refused(arguments, tmp_path, capsys):
    assert finetuning.main(arguments("one", "--methods", "head")) == 0
    for path in (tmp_path / "one" / "tiny").iterdir():
        if path.is_file():
            path.unlink()
    other = arguments("one", "--methods", "head", "--epochs", "3")
    assert finetuning.main(other) == 2
    assert "head-seed0 has EPOCHS = 4, not 3" in capsys.readouterr().err
    assert finetuning.main([*other, "--fresh"]) == 0


def test_what_a_start_reads_is_not_set_aside(arguments, reviews_csv, tmp_path):
    folder, given = tmp_path / "one" / "tiny", arguments("one", "--methods", "tfidf")
    assert finetuning.main(given) == 0
    reviews_csv.rename(folder / "mine.csv")
    given[given.index("--dataset") + 1] = str(folder / "mine.csv")
    assert finetuning.main([*given, "--fresh"]) == 0
    assert (folder / "mine.csv").exists() and (folder / "earlier-1" / "runs.csv").exists()


def test_constants_that_change_no_finished_run_are_free(arguments, tmp_path, capsys):
    assert finetuning.main(arguments("one", "--methods", "head")) == 0
    free = ["--micro-batch-tokens", "50", "--no-cache", "--learning-rates"]
    free += ["head=0.01", "lora=0.02", "--lora-rank", "2"]
    assert finetuning.main(arguments("one", "--methods", "head", "lora", *free)) == 0
    capsys.readouterr()
    other = arguments("one", "--methods", "head", "--learning-rates", "head=0.5")
    assert finetuning.main(other) == 2
    assert "head-seed0 has learning_rate = [0.01], not [0.5]" in capsys.readouterr().err
