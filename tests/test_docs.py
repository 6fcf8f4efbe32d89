"""What README and docs say: every number is that of a file; short pages, short sentences."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from modeling import METHODS

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
PAGES = ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]
PROSE = [page for page in PAGES if "predictions" not in page]  # those are no measurements
DECIMAL = re.compile(r"(?<![\w.,=])[−-]?\d[\d,]*\.\d+(?!\w|\.\d)")
OTHER_THAN_PROSE = re.compile(
    r"^```.*?^```|^    .*?$|`[^`]*`|\]\([^)]*\)|\[\d{4}\.\d{5}(?=\])|arXiv:\S+|Python 3\.\d+",
    re.DOTALL | re.MULTILINE,
)
# Tables of numbers that stand in no file; tests compute them, here and in tests/test_evidence.py.
COMPUTED = r"^\| (300 labels, minus LoRA|trained → tested on) .*?(?=\n\n)"
FINDINGS, README = "docs/findings.md", "README.md"


def text_of(page):
    return (ROOT / page).read_text(encoding="utf-8")


def table_of(page, first):
    """The rows of the table that begins with `first`: the first cell, and the others."""
    table = re.search(rf"^\| {re.escape(first)}.*?(?=\n\n)", text_of(page), re.M | re.S)[0]
    rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in table.split("\n")]
    return {name: cells for name, *cells in rows[2:]}


# ---------------------------------------------------------------------------- every number


def decimals(text):
    """The decimals of a text, as written and as numbers."""
    return {n: float(n.replace(",", "").replace("−", "-")) for n in DECIMAL.findall(text)}


def numbers_in(path):
    """What a page or a table says; shares of one in per cent too."""
    if path.suffix == ".md":
        return np.array(list(decimals(path.read_text(encoding="utf-8")).values()))
    values = pd.read_csv(path).select_dtypes("number").to_numpy(float).flatten()
    return np.concatenate([values, 100 * values])


def intervals(text):
    """Each number of prose that has an interval, with its ends, whatever their signs."""
    text = re.sub(r"^    .*$", "", text, flags=re.MULTILINE)  # what a command has printed
    found = re.findall(r"(\d+\.\d) (?:\(|\| |points \()[−-]?(\d+\.\d) to [−-]?(\d+\.\d)", text)
    return {(number, *sorted(ends)) for number, *ends in found}


def without_source(page, text):
    """The decimals of a text that stand, rounded likewise, in no file of results that it links.

    And the intervals that stand in none with the same number.
    """
    links = re.findall(r"\]\(([^)#\s:]*results/[^)#\s:]+\.(?:md|csv))\)", text)
    paths = [(ROOT / page).parent / link for link in links]
    told = [path.read_text(encoding="utf-8") for path in paths if path.suffix == ".md"]
    known = np.abs(np.concatenate([[np.inf], *map(numbers_in, paths)]))
    text = OTHER_THAN_PROSE.sub("", text)
    wrong = sorted(intervals(text) - intervals("\n".join(told)))
    for written, value in decimals(text).items():
        half = 0.5 * 10.0 ** -len(written.partition(".")[2])
        if not (np.abs(known - abs(value)) <= half + 1e-9).any():
            wrong.append(written)
    return wrong


@pytest.mark.parametrize("page", PROSE)
def test_every_decimal_of_a_section_stands_in_a_file_that_it_links(page):
    text = re.sub(COMPUTED, "", text_of(page), flags=re.M | re.S)
    sections = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    wrong = {part.partition("\n")[0]: without_source(page, part) for part in sections}
    assert {heading: numbers for heading, numbers in wrong.items() if numbers} == {}


def test_the_main_table_is_that_of_the_page_of_tasks():
    points = pd.read_csv(RESULTS / "tasks.csv").set_index(["model", "method", "task", "labels"])
    mark = {"best": "**{}**".format, "equivalent": "{} ≈".format, "worse": "{} †".format}
    names = {"tfidf": "TF-IDF", "probe": "probe", "head": "head-only", "adapter": "adapters"}
    names |= {"lora": "LoRA", "full": "fine-tuning"}
    tasks = "imdb", "rotten-tomatoes", "r8", "20newsgroups"
    lines = re.search(r"^\| method \| IMDB .*?(?=\n\n)", text_of(FINDINGS), re.M | re.S)[0]
    readme = table_of(README, "method | MiniLM")
    models = "all-MiniLM-L6-v2", "all-mpnet-base-v2"
    for column, (model, title) in enumerate(zip(models, ("MiniLM", "MPNet"), strict=True)):
        part = lines.partition(f"| **{title}** |")[2].partition("\n| **")[0] + "\n"
        for method, name in names.items():
            told = [
                [points.loc[model, method, task, labels] for labels in (300, 2000)]
                for task in tasks
            ]
            cells = [
                " → ".join(
                    mark.get(row["place"], str)(f"{100 * row['accuracy']:.1f}") for row in pair
                )
                for pair in told
            ]
            means = [np.mean([pair[i]["accuracy"] for pair in told]) for i in (0, 1)]
            mean = " → ".join(f"{100 * mean:.1f}" for mean in means)
            assert f"\n| {name} | {' | '.join(cells)} | {mean} |\n" in part, (model, name)
            assert name not in readme or readme[name][column] == mean


def planned(page):
    """The planned contrasts of the means: {pair: [(points, interval, verdict) of each group]}."""
    told = {}
    for part in re.findall(r"### Planned contrasts: mean.*?(?=\n###)", text_of(page), re.S):
        for line in re.findall(r"^\| (.* − .*) \|$", part, re.MULTILINE):
            pair, points, interval, *_, verdict = line.split(" | ")
            told.setdefault(pair.replace(" of the last 3 blocks", ""), []).append(
                (points, f"{points} ({interval})", verdict)
            )
    return told


def marked(text, verdict):
    return f"**{text}**" if verdict.endswith("better") else text


def turned(number):
    """A number as written, with the other sign."""
    return number[1:] if number[0] == "−" else f"−{number}"


def test_the_planned_contrasts_are_those_of_the_page_of_tasks():
    found = planned("docs/results/tasks.md")
    told = table_of(FINDINGS, "points | MiniLM")
    assert told == {p: [marked(text, v) for _, text, v in found[p]] for p in found}
    readme = table_of(README, "method | MiniLM")
    for pair in found:
        first, second = pair.split(" − ")
        for cell, (points, text, verdict) in zip(
            readme[second if first == "LoRA" else first][2:], found[pair][1::2], strict=True
        ):  # with 2,000 labels
            if second == "LoRA":
                low, high = text.rstrip(")").partition("(")[2].split(" to ")
                text = " to ".join(map(turned, (points, high, low))).replace(" to ", " (", 1) + ")"
            assert cell == marked(text, verdict)


def test_the_tables_of_the_other_methods_are_those_of_their_page():
    found = planned("docs/results/others.md")
    for name, cells in table_of(FINDINGS, "minus LoRA, points").items():
        rows = found[f"{name} − LoRA"]
        assert cells == [marked(n + " ≈" * v.startswith("equivalent"), v) for n, _, v in rows]
    part = text_of("docs/results/others.md").partition("### Planned contrasts of each task")[2]
    for name, cells in table_of(FINDINGS, "300 labels, minus LoRA").items():
        rotten, imdb = re.search(
            rf"^\| {re.escape(name)} − LoRA \| (\S+) .*? \| (\S+) ", part, re.M
        ).groups()
        assert cells[::2] == [rotten, imdb]


def test_tfidf_raises_loras_means_by_what_the_findings_say():
    told = []
    for group in ("few", "more", "few-base", "more-base"):
        gains = []
        for task in ("imdb", "rotten", "r8", "20newsgroups"):
            rows = pd.read_parquet(RESULTS / f"{group}-{task}" / "predictions.parquet")
            lora, tfidf = (
                rows[rows["method"] == m].sort_values("seed", kind="stable")
                for m in ("lora", "tfidf")
            )
            lora, tfidf = lora.reset_index(), tfidf.reset_index()
            sure = lora["confidence"] >= tfidf["confidence"]
            both = lora["predicted"].where(sure, tfidf["predicted"])
            gains.append(
                (both == lora["label"]).mean() - (lora["predicted"] == lora["label"]).mean()
            )
        told.append(f"{100 * np.mean(gains):.1f}")
    text = " ".join(text_of(FINDINGS).split())
    assert (
        "rises by {} and {} points (MiniLM, 300 and 2,000 labels), and by {} and {} (MPNet)".format(
            *told
        )
        in text
    )


def test_another_samples_choice_of_learning_rates_gives_what_the_box_says():
    runs = pd.read_csv(RESULTS / "rates" / "runs.csv")
    leads = []
    for seed in range(5):
        means = {}
        for name, rows in runs.groupby("name"):
            own = rows[rows["seed"] == seed]
            rate = own.loc[own["validation_loss"].idxmin(), "learning_rate"]
            means[name] = rows.loc[rows["learning_rate"] == rate, "test_accuracy"].mean()
        leads.append(f"{100 * (means['lora'] - means['full']):.1f}".replace("-", "−"))
    first, *others = leads
    others.sort(key=lambda text: float(text.replace("−", "-")))
    text = " ".join(text_of(FINDINGS).replace("\n>", "\n").split())
    assert f"LoRA − fine-tuning is {first} points" in text
    assert f"it would lie between {others[0]} and {others[-1]}" in text


def test_the_tables_of_models_after_training_are_means_of_their_file():
    table = pd.read_csv(RESULTS / "after_training.csv").fillna({"rank": np.inf})  # inf: whole
    table["method"] = table["run"].str.partition("-")[0]
    keys = ["experiment", "task", "rank", "method"]
    means = (100 * table.groupby(keys)["test_accuracy"].mean()).map("{:.1f}".format)
    imdb = pd.read_csv(RESULTS / "more-imdb" / "runs.csv").groupby("method")["test_accuracy"].mean()
    tasks = {"Rotten Tomatoes": ("more-rotten", "rotten-tomatoes"), "IMDB": ("more-imdb", "imdb")}
    for pair, cells in table_of(FINDINGS, "trained → tested on").items():
        source, target = (tasks[name] for name in pair.split(" → "))
        for cell, method in zip(cells, ("head", "adapter", "lora", "full"), strict=True):
            key = source[0], target[1], np.inf, method
            assert cell == (means[key] if key in means else f"{100 * imdb[method]:.1f}")
    ranks = means["more-rotten", "rotten-tomatoes"]
    text = " ".join(text_of(FINDINGS).split())
    told = ranks[4, "full"], ranks[np.inf, "full"], ranks[1, "full"]
    assert "truncated to rank 4, they keep {} of {} %; to rank 1, {} %".format(*told) in text


def test_the_files_on_the_page_of_methods_have_the_size_that_was_measured():
    sizes = pd.read_csv(RESULTS / "methods_cost.csv").set_index(["method", "encoder"])
    rows = table_of("docs/methods.md", "method | equation")
    told = {re.search(r"`(\w+)`", name)[1]: cells[2] for name, cells in rows.items()}
    encoders = "minilm", "mpnet"
    assert told == {
        m: " / ".join(f"{sizes.loc[(m, e), 'checkpoint_mb']:.2g}" for e in encoders)
        for m in METHODS
    }


# ---------------------------------------------------------------------------- sizes and words


def test_the_lesson_is_as_long_as_the_readme_says():
    lines, lesson = re.search(
        r"\*\*The lesson\*\*, about ([\d,]+) lines(.*?)\n\n", text_of(README), re.S
    ).groups()
    files = re.findall(r"\]\(([^)]+)\)", lesson)
    counted = sum(len(text_of(file).splitlines()) for file in files)
    assert len(files) == 6 and abs(counted / int(lines.replace(",", "")) - 1) < 0.1


def test_readme_findings_and_all_documents_are_short():
    pages = [*PAGES, *(f"docs/guide/{path.name}" for path in (ROOT / "docs/guide").glob("*.md"))]
    words = {page: len(text_of(page).split()) for page in pages}
    assert words[README] <= 650 and words[FINDINGS] <= 2000 and sum(words.values()) <= 14_000


@pytest.mark.parametrize("page", PROSE)
def test_a_sentence_has_at_most_25_words(page):
    text = re.sub(r"```.*?```|^    .*?$|!\[.*?\]\(.*?\)|^> ?", "", text_of(page), flags=re.M | re.S)
    text = re.sub(r"`[^`]*`|(?<=\])\([^)]*\)", "X", text)
    parts = re.split(r"\n\s*\n|\n(?=[-#]|\d+\. )|\|", text)
    sentences = [s for part in parts for s in re.split(r"(?<=[.!?:;])\W*\s+", part)]
    assert [s for s in sentences if len(s.split()) > 25] == []
