"""The figure of learning rates: its lines are the accuracies of a method's variants."""

import numpy as np
from made_up import TESTS, add, begin

from evaluation import style
from evaluation.results import Results
from studies import variants


def test_a_methods_learning_rates_are_a_line_with_a_dot_for_each_seed(tmp_path):
    begin(tmp_path)
    rates = {"(learning_rate=0.1)": 0.1, "": 0.001, "(learning_rate=0.01)": 0.01}  # "": its own
    for i, (values, rate) in enumerate(rates.items()):
        for seed in range(3):
            for j, method in enumerate(("lora", "adapter")):
                right, record = 20 + 5 * i + seed - j, {"learning_rate": rate}
                add(tmp_path, f"{method}{values}", seed, right, record=record)
    add(tmp_path, "dora(learning_rate=0.1)", 0, record={"learning_rate": 0.1})  # alone: no line
    add(tmp_path, "tfidf", 0, right=20, record={"hyperparameters": {}})
    figure, note, handles = variants.by_learning_rate(Results.read(tmp_path))
    lines = {line.get_color(): line for line in figure.axes[0].lines if line.get_marker() in "^s"}
    places = []
    for method in ("lora", "adapter"):
        x, y = lines[style.LOOKS[method].colour].get_xydata().T
        right = np.array([26, 31, 21]) - (method == "adapter")
        np.testing.assert_allclose(y, 100 * right / TESTS)
        places.append(np.log(x) - np.log([0.001, 0.01, 0.1]))
    shift = variants.APART / 2 * np.log(100)  # so that no bar hides another
    np.testing.assert_allclose(np.sort(places, axis=0), [[-shift] * 3, [shift] * 3])
    dots = [line for line in figure.axes[0].lines if line.get_marker() == "."]
    assert [len(line.get_xdata()) for line in dots] == [9, 9]
    assert [handle.get_label() for handle in handles] == ["LoRA", "adapters", "TF-IDF"]
    (level,) = [line for line in figure.axes[0].lines if line.get_color() == "#56B4E9"]
    assert list(level.get_ydata()) == [50, 50]
    assert "error bars: 95 % intervals, of other seeds and other texts" in note
