"""What README and docs say: every decimal is that of a file that the same section links."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import DistilBertConfig, DistilBertForSequenceClassification

import finetuning
from modeling import METHODS

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
DECIMAL = re.compile(r"(?<![\w.,=])[−-]?\d[\d,]*\.\d+(?!\w|\.\d)")
OTHER_THAN_PROSE = re.compile(
    r"^```.*?^```|^    .*?$|\$\$.*?\$\$|\$[^$]*\$"
    r"|`[^`]*`|\]\([^)]*\)|arXiv:\S+|Python 3\.\d+",
    re.DOTALL | re.MULTILINE,
)
PUBLISHED = [87.96, 92.24, 91.60, 92.65]  # by the project that this one mirrors, and by Raschka


def text_of(page):
    return (ROOT / page).read_text(encoding="utf-8")


def decimals(text):
    """The decimals of a text, as written and as numbers."""
    found = DECIMAL.findall(text)
    return {n: float(n.replace(",", "").replace("−", "-")) for n in found}


def numbers_in(path):
    """What a page or a table says; shares of one in per cent too."""
    if path.suffix == ".md":
        return np.array(list(decimals(path.read_text(encoding="utf-8")).values()))
    values = pd.read_csv(path).select_dtypes("number").to_numpy(float).flatten()
    return np.concatenate([values, 100 * values])


def without_source(page, text, printed=""):
    """The decimals of a text that stand, rounded likewise, in no file that it links."""
    links = re.findall(r"\]\(([^)#\s:]+\.(?:md|csv))[^)]*\)", text)
    known = [PUBLISHED, list(decimals(printed).values())]
    known = np.abs(np.concatenate(known + [numbers_in((ROOT / page).parent / n) for n in links]))
    wrong = []
    for written, value in decimals(OTHER_THAN_PROSE.sub("", text)).items():
        half = 0.5 * 10.0 ** -len(written.partition(".")[2])
        if not (np.abs(known - abs(value)) <= half + 1e-9).any():
            wrong.append(written)
    return wrong


def sections(page):
    """A page in its parts, but for what it says was measured by hand."""
    parts = re.split(r"^(?=## )", text_of(page), flags=re.MULTILINE)
    return [part for part in parts if "by hand" not in part]


@pytest.mark.parametrize("page", ["findings", "performance", "choices"])
def test_every_decimal_of_a_section_stands_in_a_file_that_it_links(page):
    page = f"docs/{page}.md"
    wrong = {text.partition("\n")[0]: without_source(page, text) for text in sections(page)[1:]}
    assert {heading: numbers for heading, numbers in wrong.items() if numbers} == {}


def test_the_table_of_coverage_is_that_of_its_file():
    rows = re.findall(r"^\| \d \| \d, .*$", text_of("docs/statistics.md"), re.MULTILINE)
    text = "\n".join(["[table](results/statistics.csv)", *rows])
    assert rows and without_source("docs/statistics.md", text) == []


def test_the_tables_of_models_after_training_are_means_of_their_file():
    table = pd.read_csv(RESULTS / "after_training.csv").fillna({"rank": np.inf})  # inf: whole
    table["method"] = table["run"].str.partition("-")[0]
    draws = 100 * table.set_index(["experiment", "task", "rank", "method"])["test_accuracy"]
    found = draws.groupby(level=[0, 1, 2, 3]).agg(["mean", "min", "max"])
    page, methods = text_of("docs/findings.md"), ["head", "adapter", "lora", "full"]
    for labels, name in (("300", "few-rotten"), ("2,000", "more-rotten")):
        ranks = found.loc[name, "rotten-tomatoes"].xs("full", level="method")["mean"]
        assert f"\n| {labels} labels | {' | '.join(f'{m:.1f}' for m in ranks)} |\n" in page
    imdb = (
        100
        * pd.read_csv(RESULTS / "more-imdb" / "runs.csv").groupby("method")["test_accuracy"].mean()
    )
    whole = found.xs(np.inf, level="rank")
    for task, title, there, other, source in (
        ("rotten-tomatoes", "Rotten Tomatoes", "more-rotten", "more-imdb", "IMDB"),
        ("imdb", "IMDB", None, "more-rotten", "Rotten Tomatoes"),
    ):
        own = whole.loc[there, task]["mean"] if there else imdb
        same = " | ".join(f"{own[method]:.1f}" for method in methods)
        assert f"| {title} | the same | {same} |" in page
        cells = whole.loc[other, task].loc[methods].to_numpy()
        cells = " | ".join(f"{mean:.1f} ({low:.1f} to {high:.1f})" for mean, low, high in cells)
        assert f"| {title} | {source} | {cells} |" in page


def test_the_accuracies_of_the_findings_and_the_readme_are_those_of_the_page_of_tasks():
    points = pd.read_csv(RESULTS / "tasks.csv")
    mark = {"best": "**{}**".format, "equivalent": "{} ≈".format, "worse": "{} †".format}
    methods = "tfidf", "probe", "head", "adapter", "lora", "full"
    tasks = "imdb", "rotten-tomatoes", "r8", "20newsgroups"
    page = text_of("docs/findings.md")
    table = re.search(r"^\| method \| IMDB .*?(?=\n\n)", page, re.M | re.S)[0]
    head = re.search(r"^\| mean of four tasks .*?(?=\n\n)", text_of("README.md"), re.M | re.S)[0]
    head = [line.strip("| ").split(" | ") for line in head.splitlines()[2:]]
    _, *parts = re.split(r"^\| \*\*.*\*\* [| ]+\n", table, flags=re.MULTILINE)  # of an encoder each
    for column, part, (_, own) in zip((1, 2), parts, points.groupby("model"), strict=True):
        groups = [each for _, each in own.groupby("labels")]  # fewer labels first
        rows = [line.strip("| ").split(" | ")[1:] for line in part.splitlines()]
        for cells, of_readme, method in zip(rows, head, methods, strict=True):
            found = [group[group["method"] == method].set_index("task") for group in groups]
            for cell, task in zip(cells[:4], tasks, strict=True):
                at = [each.loc[task] for each in found if task in each.index]
                texts = [mark.get(row.place, str)(f"{100 * row.accuracy:.1f}") for row in at]
                assert cell == " → ".join(texts), (method, task)
            means = [each["accuracy"].mean() for each in found if len(each) == 4]
            mean = " → ".join(f"{100 * mean:.1f}" for mean in means)
            assert cells[4] == of_readme[column] == mean, method


def test_the_tables_of_the_other_methods_are_those_of_their_page():
    told, marked = {}, {"LoRA better": "**{}**", "different": "**{}**", "undecided": "{}"}
    for part in re.split(r"^## ", text_of("docs/results/others.md"), flags=re.MULTILINE)[1:5]:
        rows = [line.strip("| ").split(" | ") for line in part.splitlines() if " − LoRA |" in line]
        for name, *cells in rows:
            name = name.removesuffix(" − LoRA")
            if len(cells) == 5:  # of the mean
                cells = [(f"{cells[0]} ({cells[1]})", cells[4])]
            else:  # of each task
                cells = [(*cell.split(", **"), "undecided")[:2] for cell in cells]
            texts = [marked.get(v.strip("*"), "{}, equivalent").format(text) for text, v in cells]
            told.setdefault(name, []).extend(texts)
    page = text_of("docs/findings.md")
    own = re.search(r"^\| 300 labels, minus LoRA .*?(?=\n\n)", page, re.M | re.S)[0]
    for name, texts in told.items():  # of each group: the mean, then Rotten Tomatoes, IMDB, ...
        assert f"| {name} | {' | '.join(texts[::5])} |" in page
        (row,) = re.findall(rf"^\| {re.escape(name)} \| (.*) \|$", own, re.MULTILINE)
        rotten, imdb = row.split(" | ")[0::2]  # at one draw's rate
        assert rotten == texts[1] and imdb in ("—", texts[2])


def test_every_decimal_of_the_readme_stands_in_a_file_that_it_links():
    methods = re.compile(r"^\|.*MB \|$", re.MULTILINE)  # its counts are computed below
    assert without_source("README.md", methods.sub("", text_of("README.md"))) == []


def test_readmes_counts_of_parameters_are_the_models():
    text = " ".join(text_of("README.md").split())
    for method in map(METHODS.get, ("head", "adapter", "lora", "bitfit", "full")):
        with torch.device("meta"):
            model = method(DistilBertForSequenceClassification(DistilBertConfig()))
        trained, total = model.count_parameters()
        share, size = 100 * trained / total, 4 * trained / 1e6  # 4 bytes a parameter
        share = "100" if trained == total else f"{share:.3f}"
        size = f"{size:.1f}" if size < 100 else f"{size:.0f}"
        file = method.__module__.replace(".", "/") + ".py"
        assert f"({file}) | {trained:,} | {share} | {size} MB |" in text


def test_the_costs_on_the_page_of_methods_are_those_of_its_file():
    page = text_of("docs/methods.md")
    table = pd.read_csv(RESULTS / "methods_cost.csv").set_index(["method", "encoder"])
    for method in METHODS:
        cells = re.search(rf"^\| \[`{method}`\].*$", page, re.MULTILINE)[0].split(" | ")[6:8]
        for cell, column in zip(cells, ("ratio", "checkpoint_mb"), strict=True):
            assert cell == " / ".join(
                f"{table.loc[(method, encoder), column]:.2g}" for encoder in ("minilm", "mpnet")
            )
    text = re.search(r"\*\*step\*\*.*?\n\n", page, re.DOTALL)[0]
    own = table.loc["lora", ["ratio_low", "ratio_high"]].to_numpy()
    assert list(decimals(text).values()) == [own.min().round(2), own.max().round(2)]


TUNED = pd.read_csv(RESULTS / "learning_rates.csv")


def chosen_rates(experiment):
    """The rate that its tuning chose, by method or variant; the one of the lowest loss."""
    rows = TUNED[TUNED["experiment"] == experiment]
    best = rows.loc[rows.groupby("method")["validation_loss"].idxmin()]
    return best.set_index("method")["learning_rate"].to_dict()


@pytest.mark.parametrize(
    ("tuned", "preset"), [("full", "full"), ("more-base-imdb", "base"), ("few-imdb", "quick")]
)
def test_the_rates_that_tuning_chose_are_the_presets(tuned, preset):
    assert chosen_rates(tuned).items() <= getattr(finetuning.LEARNING_RATES, preset).items()


@pytest.mark.parametrize("name", [name for name in TUNED["experiment"].unique() if name != "full"])
def test_an_experiment_has_the_rates_that_its_tuning_chose(name, evidence):
    runs = pd.read_csv(evidence(name) / "runs.csv")
    runs["method"] = runs["method"].str.replace(r",? ?learning_rate=[^,)]+", "", regex=True)
    runs["method"] = runs["method"].str.replace("()", "", regex=False)
    ran = runs.dropna(subset="learning_rate").groupby("method")["learning_rate"].unique()
    for method, rate in chosen_rates(name).items():
        assert ran[method].tolist() == [rate], method


def test_the_lesson_is_as_long_as_the_readme_says():
    text = text_of("README.md")
    lines, lesson = re.search(
        r"\*\*The lesson\*\*, about ([\d,]+) lines(.*?)\n\n", text, re.S
    ).groups()
    files = re.findall(r"\]\(([^)]+)\)", lesson)
    counted = sum(len(text_of(file).splitlines()) for file in files)
    assert len(files) == 6 and abs(counted / int(lines.replace(",", "")) - 1) < 0.1
