"""The page of several tasks: methods by tasks, and contrasts of their mean."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_up import EXPERIMENT, TESTS, add, add_run, begin, predicted

from evaluation import statistics
from evaluation.metrics import METRICS
from evaluation.results import Results
from studies import compact, task_figures, tasks

PLANNED = ["lora - head", "lora - adapter"]


def experiments(tmp_path, names=("imdb", "r8"), contrasts=PLANNED, name="few", margin=0.01, **data):
    """A folder for each task; LoRA gets 30, 31, ... test reviews right, head-only 20."""
    folders, data = [], {"data": EXPERIMENT["data"] | data}
    for i, task in enumerate(names):
        own = {"experiment": f"{name}-{task}", "dataset": task, "contrasts": contrasts}
        own["equivalence_margin"] = margin
        about = data | {"constants": EXPERIMENT["constants"] | own}
        about["digests"] = {"data digest": task}
        begin(tmp_path / f"{name}-{task}", **about)
        for method, right in (("head", 20), ("lora", 30 + i), ("adapter", 29)):
            for seed in (0, 1):
                add(tmp_path / f"{name}-{task}", method, seed, right, record=own)
        folders.append(tmp_path / f"{name}-{task}")
    return folders


def test_each_task_is_a_column_with_its_accuracies(tmp_path, capsys):
    folders = experiments(tmp_path)
    (tmp_path / "few-r8" / "report.md").touch()
    assert tasks.main([*map(str, folders)]) == 0
    page, csv, png = capsys.readouterr().out.split()
    assert [page, csv, png] == [str(tmp_path / f"few.{end}") for end in ("md", "csv", "png")]
    points = pd.read_csv(csv).set_index(["task", "method"])
    assert points.loc[("r8", "lora"), "accuracy"] == pytest.approx(31 / TESTS)
    assert points.loc[("r8", "lora"), "place"] == "best"
    text = Path(page).read_text()
    assert "| method | imdb | r8 |" in text
    assert "\n| imdb | 2 |" in text and "\n| [r8](few-r8/report.md) | 2 |" in text  # a page
    assert Path(png).read_bytes().startswith(b"\x89PNG")


def test_what_differs_from_the_best_of_its_task_or_is_equivalent_is_marked(tmp_path):
    read = [Results.read(folder) for folder in experiments(tmp_path, margin=0.4)]
    places = {"significant": "worse", "equivalent": "equivalent", "not significant": ""}
    points = tasks.accuracies(read).set_index(["task", "method"])["place"]
    for results in read:
        pairs = pd.concat([results.contrasts, results.comparisons])
        two = pairs[["method_a", "method_b"]].apply(set, axis=1)
        for other in ("head", "adapter"):
            (pair,) = pairs[two == {"lora", other}].itertuples()
            assert points[tasks.task_of(results), other] == places[pair.verdict]
        (pair,) = pairs[two == {"head", "adapter"}].itertuples()
        assert pair.verdict == "significant"  # of two that are not the best: it marks none
    assert set(points) == {"best", "worse", "equivalent"}


def test_the_mean_counts_every_task_alike_and_has_holm_of_its_own(tmp_path):
    read = [Results.read(folder) for folder in experiments(tmp_path)]
    pairs = tasks.contrasts(read)
    means = pairs[pairs["task"] == tasks.MEAN]
    each = pairs[(pairs["task"] != tasks.MEAN) & (pairs["method_b"] == "head")]
    assert means["difference"].iloc[0] == pytest.approx(each["difference"].mean())
    assert means["p_holm"].tolist() == statistics.holm(means["p"].to_numpy()).tolist()
    assert means["difference_of"].iloc[0] == "LoRA − head-only"
    of_each = each["macro_f1_difference"].mean()
    assert means["macro_f1_difference"].iloc[0] == pytest.approx(of_each)


def test_runs_that_give_every_text_one_label_are_counted(tmp_path):
    folders = experiments(tmp_path)
    assert "one label" not in tasks.write_page(*folders)[0].read_text()
    truth = np.arange(TESTS) % 2
    add_run(folders[1], "lora", 2, predicted(truth, np.tile([1.0, 0.0], (TESTS, 1))))
    page = tasks.write_page(*folders)[0].read_text()
    counts = page.partition("### Runs that give every text one label")[2]
    assert "| LoRA | 0 | 1 |" in counts.partition("###")[0]


def test_a_contrast_that_one_task_lacks_has_no_mean(tmp_path):
    folders = experiments(tmp_path)
    about = Results.read(folders[1]).experiment
    begin(folders[1], constants=about["constants"] | {"contrasts": PLANNED[:1]})
    pairs = tasks.contrasts([Results.read(folder) for folder in folders])
    assert set(pairs["method_b"]) == {"head"}


def test_without_planned_contrasts_the_page_has_accuracies_alone(tmp_path):
    page, csv = tasks.write_page(*experiments(tmp_path, contrasts=[]))
    text = page.read_text()
    assert "Planned" not in text and csv.exists()
    assert all(f"### Test {metric.label}, {metric.unit}\n" in text for metric in METRICS.values())


def test_one_seed_is_said_and_a_page_elsewhere_is_linked(tmp_path):
    folders = experiments(tmp_path)
    for folder in folders:
        for run in folder.glob("*-seed1"):
            shutil.rmtree(run)
    other = tmp_path / "other" / "few-r8"
    other.parent.mkdir()
    folders[1].rename(other)
    (other / "report.md").touch()
    page = tasks.write_page(folders[0], other)[0].read_text()
    assert "of other texts, one run" in page and "seeds, paired" not in page
    assert "| [r8](other/few-r8/report.md) |" in page


def test_experiments_with_more_labels_are_a_group_with_means_of_their_own(tmp_path):
    more = experiments(tmp_path, ("imdb", "r8", "trec"), name="many", train=900, validation=100)
    page, csv, labels, png = tasks.write_page(*experiments(tmp_path), *more)
    names = ("tasks.md", "tasks.csv", "tasks-labels.png", "tasks.png")
    assert (page.name, csv.name, labels.name, png.name) == names
    few, many = page.read_text().split("1,000 labels\n")
    titles = ["method", "imdb", "r8", "trec", tasks.MEAN]
    assert f"| {' | '.join(titles)} |\n" in many
    assert f"| {' | '.join(title for title in titles if title != 'trec')} |\n" in few
    lora = (pd.read_csv(csv).query("method == 'lora' and labels == 1000"))["accuracy"]
    assert lora.tolist() == pytest.approx([right / TESTS for right in (30, 31, 32)])
    cells = [line.split(" | ") for line in many.splitlines() if line.startswith("| LoRA | ")]
    assert cells[0][-1] == f"{100 * lora.mean():.1f} |"
    alone = tasks.contrasts([Results.read(more[0])])  # of one task there is no mean
    assert alone["task"].tolist() == ["imdb"] * len(PLANNED)
    difference = lora.mean() - 20 / TESTS
    assert f"| LoRA − head-only | {100 * difference:.1f} |" in many


def test_only_methods_with_several_numbers_of_labels_have_a_row(tmp_path):
    folders = experiments(tmp_path)
    more = experiments(tmp_path, ("imdb",), name="many", train=900, validation=100)
    read = [Results.read(folder) for folder in (*folders, *more)]
    points, looks = tasks.accuracies(read), read[0].looks
    assert task_figures.by_labels(points[points["labels"] < 1000], looks) is None
    figure, _, handles = task_figures.by_labels(points[points["method"] != "head"], looks)
    (panel,) = figure.axes
    assert panel.get_title() == "imdb"
    assert [handle.get_label() for handle in handles] == ["14 labels", "1,000 labels"]
    methods = [label.get_text() for label in panel.get_yticklabels()]
    lines = [bars.lines[0] for bars in panel.containers]
    drawn = [(methods[round(line.get_ydata()[0])], line) for line in lines]
    values = sorted((label, line.get_xdata()[0]) for label, line in drawn)
    right = {"LoRA": 30, "adapters": 29}
    assert values == [(n, pytest.approx(100 * right[n] / TESTS)) for n in sorted([*right] * 2)]
    ends = [(line.get_ydata()[0], line.get_markerfacecolor().tolist()) for _, line in drawn]
    hollow = {(y < round(y), face == [1, 1, 1]) for y, face in ends}
    assert hollow == {(True, True), (False, False)}  # those of the fewest labels, above
    assert handles[0].get_markerfacecolor().tolist() == [1, 1, 1]
    other = points[points["task"] == "imdb"].assign(model="other", task="trec")
    figure, *_ = task_figures.by_labels(pd.concat([points, other]), looks)  # a row a model
    shown = [axes.get_visible() for axes in figure.axes]
    assert shown == [True, False, False, True]
    assert [axes.get_title() for axes in figure.axes] == ["imdb", "", "", "trec"]
    assert [axes.get_ylabel() for axes in figure.axes] == ["tiny", "", "", "other"]


def test_numbers_of_labels_that_are_read_otherwise_are_not_drawn(tmp_path):
    folders = experiments(tmp_path, ("imdb",))
    folders += experiments(tmp_path, ("imdb",), name="many", train=900, validation=100)
    assert len(tasks.write_page(*folders)) == 4
    path = folders[1] / "experiment.json"
    path.write_text(path.read_text().replace('"max_tokens": 8', '"max_tokens": 16'))
    assert len(tasks.write_page(*folders)) == 3


def test_a_method_that_one_task_lacks_has_no_mean_accuracy(tmp_path):
    points = tasks.accuracies([Results.read(folder) for folder in experiments(tmp_path)])
    lacks = points[(points["task"] == "imdb") | (points["method"] != "lora")]
    means = tasks._with_means(lacks).query("task == @tasks.MEAN")["label"]
    assert set(means) == set(points["label"]) - {"LoRA"}
    one = points[points["task"] == "imdb"]
    assert tasks._with_means(one).equals(one)


def test_two_experiments_on_one_task_are_refused(tmp_path, capsys):
    folders = experiments(tmp_path)
    begin(folders[1], constants=Results.read(folders[0]).experiment["constants"])
    assert tasks.main([*map(str, folders)]) == 2
    assert "imdb is the DATASET of two" in capsys.readouterr().err


def test_a_mean_of_tasks_with_two_margins_is_refused(tmp_path, capsys):
    folders = experiments(tmp_path)
    constants = Results.read(folders[1]).experiment["constants"]
    begin(folders[1], constants=constants | {"equivalence_margin": 0.02})
    assert tasks.main([*map(str, folders)]) == 2
    assert "EQUIVALENCE_MARGIN is 0.01 and 0.02" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["data digest", "data"])  # of this version, and of earlier ones
def test_one_data_set_by_two_paths_is_refused(tmp_path, capsys, name):
    folders = experiments(tmp_path, ("a.csv", "b.csv"))
    for folder in folders:
        begin(folder, **Results.read(folder).experiment | {"digests": {name: "a.csv"}})
    assert tasks.main([*map(str, folders)]) == 2
    assert "have the same data" in capsys.readouterr().err
    more = experiments(tmp_path, ("a.csv",), name="many", train=900, validation=100)
    assert tasks.main([*map(str, folders[:1] + more)]) == 0  # with more labels it is no other


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
def test_accuracies_have_no_marks_of_another_metrics_tests(tmp_path, metric):
    (folder,) = experiments(tmp_path, ("imdb",))
    about = Results.read(folder).experiment
    begin(folder, **about | {"constants": about["constants"] | {"metric": metric}})
    places = set(tasks.accuracies([Results.read(folder)])["place"])
    assert "best" in places and ("worse" in places) == (metric == "accuracy")


def test_nothing_but_the_same_commands_page_is_overwritten(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tasks, "save", lambda path, *_: path)
    folders = [*map(str, experiments(tmp_path, ("imdb", "r8", "trec")))]
    assert tasks.main(folders) == 0 and tasks.main(folders) == 0
    before = (tmp_path / "few.md").read_bytes()
    assert tasks.main(folders[:2]) == 2  # a page of other experiments
    assert (tmp_path / "few.md").read_bytes() == before
    for name in ("few.md", "few.png", "few.csv", "few-labels.png"):
        for path in tmp_path.glob("few*.*"):
            path.unlink()
        (tmp_path / name).write_text("# My own\n")
        assert tasks.main(folders) == 2
        assert f"{name} is there" in capsys.readouterr().err
        assert [path.read_text() for path in tmp_path.glob("few*.*")] == ["# My own\n"]


def test_an_experiment_is_compacted_over_nothing_but_its_own_compact_form(tmp_path, capsys):
    one, other = map(str, experiments(tmp_path))
    target, mine = str(tmp_path / "kept"), tmp_path / "mine"
    assert compact.main([one, target]) == 0 and compact.main([one, target]) == 0
    mine.mkdir()
    (mine / "report.md").write_text("# My own\n")
    for source, place in ((other, target), (other, one), (one, one), (one, str(mine))):
        assert compact.main([source, place]) == 2
        assert "is not of this experiment" in capsys.readouterr().err
    assert (mine / "report.md").read_text() == "# My own\n"
    assert compact.read(Path(target)).experiment["constants"]["dataset"] == "imdb"
