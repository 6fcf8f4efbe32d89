"""The figure across experiments: which constant differs, and what stands at each of its values."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_up import EXPERIMENT, TESTS, add, begin

from evaluation import across, statistics
from evaluation.results import Results
from evaluation.style import METHODS

TFIDF = METHODS["tfidf"].colour


def experiments(tmp_path, constant="max_tokens", values=(64, 128, 512), **more):
    """A folder for each value; LoRA gets 30, 31, ... test reviews right."""
    folders = []
    for i, value in enumerate(values):
        name = f"tokens-{i}"
        constants = EXPERIMENT["constants"] | {"experiment": name, constant: value} | more
        begin(tmp_path / name, constants=constants)
        for method in ("head", "lora"):
            for seed in (0, 1):
                right = 30 + i if method == "lora" else 20
                add(tmp_path / name, method, seed, right, record={"experiment": name})
        folders.append(tmp_path / name)
    return folders


def test_each_value_has_the_accuracy_of_its_experiment(tmp_path, capsys):
    folders = experiments(tmp_path)
    assert across.main([*map(str, folders)]) == 0
    page, csv, png = capsys.readouterr().out.split()
    ends = ("md", "csv", "png")
    assert [page, csv, png] == [str(tmp_path / f"tokens_max_tokens.{end}") for end in ends]
    points = pd.read_csv(csv)
    lora = points[points["method"] == "lora"]
    assert lora["max_tokens"].tolist() == [64, 128, 512]
    assert lora["accuracy"].tolist() == pytest.approx([30 / TESTS, 31 / TESTS, 32 / TESTS])
    assert (points["low"] <= points["accuracy"]).all()
    assert "How much of a review does each method need?" in Path(page).read_text()


def test_a_size_that_is_all_there_are_stands_at_its_number(tmp_path):
    folders = experiments(tmp_path, "train_examples", (None, 5))
    read = [Results.read(folder) for folder in folders]
    assert across.differing(read) == "train_examples"
    begin(
        folders[1],
        constants=read[1].experiment["constants"],
        data=EXPERIMENT["data"] | {"train": 5},
    )
    read[1] = Results.read(folders[1])
    assert sorted(set(across.table(read, "train_examples")["train_examples"])) == [5, 10]


def test_a_budget_is_all_labels(tmp_path):
    read = [Results.read(folder) for folder in experiments(tmp_path, "labels", (14, None))]
    assert across.differing(read) == "labels"
    assert set(across.table(read, "labels")["labels"]) == {14}  # 10 and 4 of validation


@pytest.mark.parametrize(
    ("constant", "values", "texts"),
    [
        ("truncation", ("left", "right"), ["left", "right"]),
        ("lora_targets", (["q"], ["q", "v"]), ["q", "q, v"]),
        ("lora_targets", ([["q", 1], ["v", 2]], None), ["None", "q, 1, v, 2"]),
    ],
)
def test_texts_and_lists_are_compared_too(tmp_path, constant, values, texts):
    page, csv, png = across.compare(*experiments(tmp_path, constant, values))
    points = pd.read_csv(csv, keep_default_na=False)
    assert list(dict.fromkeys(points[constant].replace("", "None"))) == texts
    assert png.read_bytes().startswith(b"\x89PNG")


def test_baselines_are_lines_and_others_have_a_dot_a_seed(tmp_path):
    folders = experiments(tmp_path)
    for i, folder in enumerate(folders):
        add(folder, "tfidf", 0, 10 + i, record={"experiment": f"tokens-{i}"})
    read = [Results.read(folder) for folder in folders]
    figure, note, _ = across.figure(read, across.table(read, "max_tokens"), "max_tokens")
    assert "small dots: single seeds" in note
    dots = [line for line in figure.axes[0].lines if line.get_marker() == "."]
    assert sorted(len(line.get_xdata()) for line in dots) == [6, 6]
    (level,) = [line for line in figure.axes[0].lines if line.get_color() == TFIDF]
    np.testing.assert_allclose(level.get_ydata(), [100 * (10 + i) / TESTS for i in range(3)])


def test_a_baseline_of_one_experiment_is_a_line_across_the_figure(tmp_path):
    folders = experiments(tmp_path)
    add(folders[0], "tfidf", 0, 10, record={"experiment": "tokens-0"})
    read = [Results.read(folder) for folder in folders]
    figure, *_ = across.figure(read, across.table(read, "max_tokens"), "max_tokens")
    (level,) = [line for line in figure.axes[0].lines if line.get_color() == TFIDF]
    assert level.get_xdata() == [0, 1]  # shares of the axis
    np.testing.assert_allclose(level.get_ydata(), 100 * 10 / TESTS)


def test_fine_tuning_is_of_the_last_k_blocks_where_experiments_differ_in_them(tmp_path):
    folders = experiments(tmp_path)
    for i, folder in enumerate(folders):
        record = {"experiment": f"tokens-{i}", "hyperparameters": {"blocks": 1 + i}}
        add(folder, "full", 0, record=record)
    read = [Results.read(folder) for folder in folders]
    drawn = across.figure(read, across.table(read, "max_tokens"), "max_tokens")
    labels = [handle.get_label() for handle in drawn[2]]
    assert "fine-tuning of the last k blocks" in labels


def test_experiments_that_do_not_differ_in_one_constant_are_refused(tmp_path, capsys):
    alike = experiments(tmp_path, values=(64, 64))
    assert across.main([*map(str, alike)]) == 2
    assert "differ in no constant; expected one constant" in capsys.readouterr().err
    also = {"experiment": "tokens-1", "max_tokens": 128, "batch_size": 8}
    begin(alike[1], constants=EXPERIMENT["constants"] | also)
    assert across.main([*map(str, alike)]) == 2
    assert "differ in max_tokens, batch_size; expected one" in capsys.readouterr().err


def test_a_method_is_compared_with_itself_at_each_other_value_on_the_same_reviews(tmp_path):
    read = [Results.read(folder) for folder in experiments(tmp_path)]
    pairs = across.compared(read, "max_tokens").comparisons
    assert len(pairs) == 6  # three of each method
    of_lora = pairs[pairs["method_a"].str.startswith("lora")]
    assert of_lora["difference"].tolist() == pytest.approx([1 / TESTS, 2 / TESTS, 1 / TESTS])
    alone = statistics.compare(
        {m: r.predictions.right()["lora"] for m, r in zip("abc", read, strict=True)}
    )
    assert of_lora["p"].tolist() == alone["p"].tolist()
    assert pairs["p_holm"].tolist() == statistics.holm(pairs["p"].to_numpy()).tolist()


def test_the_page_does_not_depend_on_the_order_of_the_folders(tmp_path):
    folders = experiments(tmp_path)
    page, csv, _ = (path.read_bytes() for path in across.compare(*folders))
    assert [path.read_bytes() for path in across.compare(*folders[::-1])][:2] == [page, csv]


def test_how_long_is_trained_may_differ_beside_the_constant_and_is_compared_alone(tmp_path):
    folders = experiments(tmp_path, values=(64, 128))
    constants = Results.read(folders[1]).experiment["constants"]
    begin(folders[1], constants=constants | {"epochs": 12, "patience": 12})
    read = [Results.read(folder) for folder in folders]
    assert across.differing(read) == "max_tokens"
    points = across.table(read, "max_tokens")
    trained = points.groupby("max_tokens")["epochs"].unique().map(list).to_dict()
    assert trained == {64: [read[0].experiment["constants"]["epochs"]], 128: [12]}
    begin(folders[1], constants=constants | {"max_tokens": 64, "epochs": 12})
    read[1] = Results.read(folders[1])
    assert across.differing(read) == "epochs"


def test_a_variant_keeps_its_own_values_beside_the_constants():
    assert across.varied("lora", "max_tokens", 64) == "lora(max_tokens=64)"
    assert across.varied("lora(rank=4)", "side", "left") == "lora(rank=4, side='left')"
