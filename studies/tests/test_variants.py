"""The figure of what a hyperparameter gives: its lines are the accuracies of the variants."""

import numpy as np
from made_up import TESTS, add, begin

from evaluation import style
from evaluation.results import Results
from studies import variants


def test_a_hyperparameter_that_variants_differ_in_alone_is_a_line_of_accuracies(tmp_path):
    begin(tmp_path)
    for seed in (0, 1, 2):
        for i, method in enumerate(("lora", "adapter")):
            for n in range(1, 7):
                right = 26 + 2 * n - i + (seed + n) % 3 - 1
                record = {"hyperparameters": {"blocks": n}}
                add(tmp_path, f"{method}(blocks={n})", seed, right, record=record)
    add(tmp_path, "lora(blocks=1, rank=2)", 0, record={"hyperparameters": {"blocks": 1}})
    add(tmp_path, "tfidf", 0, right=20, record={"hyperparameters": {}})
    path = tmp_path / "lora-blocks=6-seed0" / "run.json"  # None: all blocks
    path.write_text(path.read_text().replace('"blocks": 6', '"blocks": null'))
    results = Results.read(tmp_path)
    figure, note, handles = variants.hyperparameter(results, "blocks")
    lines = {line.get_color(): line for line in figure.axes[0].lines if line.get_marker() in "^s"}
    accuracies = results.intervals.set_index("method")["accuracy"]
    for method, aside in (("lora", 0.05), ("adapter", -0.05)):  # so that no bar hides another
        x, y = lines[style.LOOKS[method].colour].get_xydata().T
        expected = [accuracies[f"{method}(blocks={n})"] for n in range(1, 7)]
        np.testing.assert_allclose(x, np.arange(1, 7) + aside)
        np.testing.assert_allclose(y, 100 * np.array(expected))
    assert [handle.get_label() for handle in handles] == ["adapters", "LoRA", "TF-IDF"]
    (level,) = [line for line in figure.axes[0].lines if line.get_color() == "#56B4E9"]
    assert list(level.get_ydata()) == [50, 50]
    assert "error bars: 95 % intervals, of other seeds and other texts" in note


def test_a_methods_learning_rates_are_a_line_with_a_dot_for_each_seed(tmp_path):
    begin(tmp_path)
    rates = (0.1, 0.001, 0.01)  # the second has no variant: it is the method's own rate
    for i, text in enumerate(("lora(learning_rate=0.1)", "lora", "lora(learning_rate=0.01)")):
        for seed in range(3):
            record = {"learning_rate": rates[i]}
            add(tmp_path, text, seed, 20 + 5 * i + seed, record=record)
    add(tmp_path, "adapter(learning_rate=0.1)", 0, record={"learning_rate": 0.1})  # alone: no line
    figure, note, handles = variants.hyperparameter(Results.read(tmp_path), "learning_rate")
    line, dots = [line for line in figure.axes[0].lines if line.get_marker() in "^."]
    expected = [[0.001, 100 * 26 / TESTS], [0.01, 100 * 31 / TESTS], [0.1, 100 * 21 / TESTS]]
    np.testing.assert_allclose(line.get_xydata(), expected)
    assert len(dots.get_xdata()) == 9
    assert [handle.get_label() for handle in handles] == ["LoRA"]
    assert variants.hyperparameter(Results.read(tmp_path), "rank") is None
