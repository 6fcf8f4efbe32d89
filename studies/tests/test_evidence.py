"""docs/results: small, and every page is made again, byte for byte, from what is committed.

Where pages are to change: python -m studies.compact docs/results/rates, and so on for each, and
python -m studies.tasks with the folders below. Some are in archives:
tar xf docs/results/others.tar.xz -C FOLDER.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from evaluation import plots
from studies import compact, epochs, tasks

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results"
FOUR = "imdb", "rotten", "r8", "20newsgroups"
TASKS = {
    "main-mpnet": tuple(f"main-mpnet-{labels}{task}" for labels in ("", "2000-") for task in FOUR),
    "main": tuple(f"main-{labels}{task}" for labels in ("", "2000-") for task in FOUR),
    "setfit": ("setfit-imdb", "setfit-rotten"),
    "others": tuple(f"others-{task}" for task in FOUR),
    "blocks": (
        *(f"blocks-{task}" for task in FOUR),
        "blocks-2000-rotten",
        *(f"blocks-mpnet-{task}" for task in FOUR),
        "blocks-mpnet-2000-rotten",
    ),
}
ARCHIVED = *TASKS["main-mpnet"], *TASKS["others"], *TASKS["blocks"]
ARCHIVED = *ARCHIVED, *(f"epochs-{task}" for task in FOUR)
EXPERIMENTS = [path.parent.name for path in RESULTS.glob("*/predictions.parquet")]
EXPERIMENTS = sorted([*EXPERIMENTS, *ARCHIVED])


@pytest.fixture(autouse=True)
def no_pixels(monkeypatch):
    """Figures are drawn, but not written: their bytes are those of a version of matplotlib."""
    for module in (plots, tasks):
        monkeypatch.setattr(module, "save", lambda path, *_: path)


@pytest.mark.parametrize("name", sorted(path.parent.name for path in RESULTS.glob("*/report.md")))
def test_a_page_is_made_again_from_the_files_beside_it(name, tmp_path):
    copy = shutil.copytree(RESULTS / name, tmp_path / name)
    compact.show(copy)
    assert (copy / "report.md").read_bytes() == (RESULTS / name / "report.md").read_bytes()


@pytest.mark.parametrize("page", TASKS)
def test_a_page_of_several_tasks_is_made_again_from_theirs(page, evidence, tmp_path):
    for name in TASKS[page]:
        (tmp_path / name).symlink_to(evidence(name))
    tasks.main([str(tmp_path / name) for name in TASKS[page]])
    for path in RESULTS.glob(f"{page}.[mc]*"):  # the page, and its table where it is kept
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_all_seeds_of_a_method_have_the_same_hyperparameters(name, evidence):
    runs = pd.read_csv(evidence(name) / "runs.csv")
    assert len(runs[["method", "hyperparameters"]].drop_duplicates()) == runs["method"].nunique()
    assert not runs["code"].str.contains("+", regex=False).any()  # of a commit as it is


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_no_folder_of_a_machine_is_in_the_evidence(name, evidence):
    for path in evidence(name).glob("*.[jm][sd]*"):
        assert not re.search(r"[ \"]/|\b/tmp/|~/", path.read_text()), path


def test_no_page_of_several_tasks_is_forgotten_and_no_experiment_of_the_archive(evidence):
    pages = {path.stem for path in RESULTS.glob("*.md")} - {"elsewhere", "epochs"}
    assert pages == TASKS.keys()
    archived = evidence("others-rotten").parent
    assert {path.name for path in archived.iterdir()} == {*ARCHIVED}


def test_a_lower_rate_would_raise_no_mean_of_the_other_methods_as_findings_say(evidence):
    lower = pd.read_csv(RESULTS / "lower_rate.csv").set_index(["task", "method", "seed"])
    tasks_runs = {task: pd.read_csv(evidence(f"others-{task}") / "runs.csv") for task in FOUR}
    runs = pd.concat(tasks_runs, names=["task"]).set_index(["method", "seed"], append=True)
    runs = runs.droplevel(1).loc[lower.index]
    of_methods = (runs["learning_rate"] == 0.003).sum(), len(runs)
    is_taken = lower["validation_loss"] < runs["validation_loss"]
    gains = (lower["test_accuracy"] - runs["test_accuracy"]).where(is_taken, 0.0)
    means = gains.groupby(["method", "task"]).mean().groupby("method").mean()
    findings = " ".join((ROOT / "docs" / "findings.md").read_text().split())
    told = re.search(r"Of the others' (\d+) runs (\d+) chose .*? raise no mean by (0.\d)", findings)
    assert (int(told[2]), int(told[1])) == of_methods and 100 * means.max() < float(told[3])


def test_more_epochs_raise_fine_tuning_and_lora_as_findings_say(evidence):
    longer = pd.read_csv(RESULTS / "longer.csv")
    longer = longer[longer["seed"] != "mean"].astype({"seed": int})
    longer = longer.set_index(["task", "method", "seed"])
    tasks_runs = {task: pd.read_csv(evidence(f"blocks-{task}") / "runs.csv") for task in FOUR}
    runs = pd.concat(tasks_runs, names=["task"]).set_index(["method", "seed"], append=True)
    runs = runs.droplevel(1).loc[longer.index]
    assert set(longer["epochs"]) == {24} and len(longer) == 20 and longer["code"].nunique() == 1
    before, after = (
        100 * table["test_accuracy"].groupby(["task", "method"]).mean() for table in (runs, longer)
    )
    findings = " ".join((ROOT / "docs" / "findings.md").read_text().split())
    full, lora = (f"{before['r8', m]:.1f} to {after['r8', m]:.1f}" for m in ("full", "lora"))
    assert f"raise it from {full} % (LoRA: {lora}). On Rotten Tomatoes both gain" in findings
    assert (after["rotten"] > before["rotten"] + 0.5).all()


def test_what_more_epochs_gain_is_that_of_the_runs_and_findings_tell_it(evidence):
    folder, gains = evidence("epochs-imdb").parent, []
    assert epochs.page(folder) == (RESULTS / "epochs.md").read_text(encoding="utf-8")
    for task in FOUR:
        after, before = (
            pd.read_csv(path / "runs.csv").set_index(["method", "seed"])
            for path in (folder / f"epochs-{task}", RESULTS / f"main-{task}")
        )
        epochs_of = [json.loads(text)["EPOCHS"] for text in after["depends_on"]]
        assert set(epochs_of) == {24} and after["code"].nunique() == 1
        difference = (after["test_accuracy"] - before["test_accuracy"]).dropna()
        gains.append(100 * difference.groupby("method").mean())
    mean = sum(gains) / len(FOUR)
    findings = " ".join((ROOT / "docs" / "findings.md").read_text().replace("\n>", "").split())
    told = re.search(r"fine-tuning (0.\d) .*?, LoRA and adapters (0.\d) each", findings)
    expected = [mean["full"], mean["lora"], mean["adapter"]]
    assert [float(told[1]), float(told[2]), float(told[2])] == pytest.approx(expected, abs=0.06)
    assert mean["full"] < 0.5 and abs(mean[["tfidf", "probe"]]).max() < 0.01  # without epochs


def committed(*places):
    """The files that git has, of those that are there."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", *places], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode:
        pytest.skip("no clone")
    return [path for name in listed.stdout.split("\0")[:-1] if (path := ROOT / name).is_file()]


def test_the_evidence_is_small_and_so_is_a_clone():
    evidence = committed("docs/results")
    assert len(evidence) <= 120
    assert sum(path.stat().st_size for path in evidence) <= 8e6
    assert sum(path.stat().st_size for path in committed()) <= 10e6
