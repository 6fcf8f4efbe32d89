"""What README and docs say: every number is that of a file; short pages, short sentences."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data_utils import load_task
from studies import own_texts

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
PAGES = ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]
PROSE = [page for page in PAGES if "predictions" not in page]  # those are no measurements
DECIMAL = re.compile(r"(?<![\w.,=])[−-]?\d[\d,]*\.\d+(?!\w|\.\d)")
OTHER_THAN_PROSE = r"^```.*?^```|^    .*?$|`[^`]*`|\]\([^)]*\)|\[\d{4}\.\d{5}(?=\])|arXiv:\S+"
OTHER_THAN_PROSE = re.compile(OTHER_THAN_PROSE + r"|Python 3\.\d+", re.DOTALL | re.MULTILINE)
# Numbers that stand in no file: a test computes them.
COMPUTED = r"^\*\*Is the advice good\?.*?(?=\n\n)"
FINDINGS, README = "docs/findings.md", "README.md"


def text_of(page):
    return (ROOT / page).read_text(encoding="utf-8")


def table_of(page, first):
    """The rows of the table that begins with `first`: the first cell, and the others."""
    table = re.search(rf"^\| {re.escape(first)}.*?(?=\n\n)", text_of(page), re.M | re.S)[0]
    rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in table.split("\n")]
    return {name: cells for name, *cells in rows[2:]}


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


def rows_of(text):
    """The first table of a text: the first cell of each row, and the others; no intervals."""
    lines = re.search(r"^\|.*?(?=\n\n)", text, re.M | re.S)[0].split("\n")
    rows = (re.sub(r" \(\S+ to \S+\)", "", line)[2:-2].split(" | ") for line in lines)
    return {name: cells for name, *cells in rows}


def accuracies(page, labels):
    """The accuracies on a page of results, with their marks, by method."""
    text = text_of(page).replace(" of the last 3 blocks", "").partition(f", {labels} labels\n")[2]
    return rows_of(text.partition("### Test accuracy, %")[2])


def test_the_main_table_is_that_of_its_page():
    readme = table_of(README, "method | 300 labels")
    for place, labels in ((0, "300"), (2, "2,000")):
        told = text_of(FINDINGS).partition(f"| **{labels} labels** |")[2].partition("\n")[2]
        told = rows_of(told.partition("| **2,")[0] + "\n\n")
        found = accuracies("docs/results/main.md", labels)
        found = {name: found[name] for name in readme}
        assert len(found) == 8 and told == found
        assert all(readme[name][place] == cells[-1] for name, cells in found.items())


def test_mpnets_accuracies_and_the_predicted_contrasts_are_those_of_their_page():
    page = text_of("docs/results/main-mpnet.md").replace(" of the last 3 blocks", "")
    columns = table_of("docs/predictions.md", "contrast | Rotten Tomatoes, 300")
    predicted = [[cell.partition(": ")[2] for cell in cells] for cells in columns.values()]
    order = "rotten-tomatoes 300", "rotten-tomatoes 2,000", "r8 300", "imdb 300", "20newsgroups 300"
    order = *order, "imdb 2,000", "r8 2,000", "20newsgroups 2,000"
    methods = ["probe", "adapters", "LoRA", "fine-tuning", "LoRA + TF-IDF"]
    for name, cells in table_of(FINDINGS, "MPNet | probe").items():
        name = name.lower().replace("20 ", "20").replace("n t", "n-t").replace(", ", " ")
        task, labels = name.split()
        found = accuracies("docs/results/main-mpnet.md", labels)
        at = found["method"].index(task)
        assert cells == [found[method][at] for method in methods]
        group = page.partition(f"all-mpnet-base-v2, {labels} labels")[2]
        rows = rows_of(group.partition("### Planned contrasts of each task")[2])
        at = rows["difference"].index(task)
        told = [row[order.index(name)] for row in predicted]
        assert told == [cells[at].partition(",")[0] for cells in [*rows.values()][2:]]


def planned(page):
    """The planned contrasts of the means: {pair: [(points, with their interval) of each group]}."""
    told = {}
    for part in re.findall(r"### Planned contrasts: mean.*?(?=\n###)", text_of(page), re.S):
        part = part.replace(" of the last 3 blocks", "")
        for line in re.findall(r"^\| (.* − .*) \|$", part, re.MULTILINE):
            pair, points, interval, *_, verdict = line.split(" | ")
            texts = points, f"{points} ({interval})"
            told.setdefault(pair, []).append([marked(text, verdict) for text in texts])
    return told


def marked(text, verdict):
    text += " ≈" * verdict.startswith("equivalent")
    return f"**{text}**" if verdict.endswith("better") else text


def test_the_planned_contrasts_are_those_of_their_pages():
    smaller, larger = [planned(f"docs/results/{page}.md") for page in ("main", "main-mpnet")]
    found = {pair: [text for _, text in groups] for pair, groups in smaller.items()}
    told = {pair: cells + [text for _, text in larger[pair]] for pair, cells in found.items()}
    assert table_of(FINDINGS, "points | MiniLM, 300 labels") == told
    for name, (_, few, _, many) in table_of(README, "method | 300 labels").items():
        assert [few, many] == found.get(f"LoRA − {name}", ["", ""])


def test_the_tables_of_the_other_methods_are_those_of_their_page():
    found = planned("docs/results/others.md")
    for name, cells in table_of(FINDINGS, "minus LoRA, points").items():
        assert cells == [points for _, points in found[f"{name} − LoRA"]]


def test_the_files_on_the_page_of_methods_have_the_size_that_was_measured():
    sizes = pd.read_csv(RESULTS / "methods_cost.csv").set_index(["method", "encoder"])
    rows = table_of("docs/methods.md", "method | equation")
    told = {re.search(r"`(\w+)`", name)[1]: cells[2] for name, cells in rows.items()}
    assert told.keys() == set(sizes.index.unique("method"))
    for method, text in told.items():
        both = [sizes.loc[(method, name), "checkpoint_mb"] for name in ("minilm", "mpnet")]
        assert text == "{:.2g} / {:.2g}".format(*both), method


def test_the_regret_of_the_advice_is_that_of_its_samples():
    rules = pd.read_csv(RESULTS / "advice.csv").set_index("task").loc["all"]
    samples = pd.read_csv(RESULTS / "own_texts.csv")
    rows = own_texts.summary(samples).set_index("task")
    means = rows.mean()  # every task counts alike
    taken = samples[samples["is_advised"]].groupby("task").mean(numeric_only=True)
    luck = 100 * (taken["accuracy"] - taken["truth"]).mean()
    part = " ".join(text_of("docs/your-own.md").partition("**Is the advice good?**")[2].split())
    simplest = "Taking the simplest method"
    told = (
        f"In {rows['samples'].sum()} samples of 300 texts of four tasks",
        f"Taking the highest accuracy costs {means['regret']:.1f} points (on IMDB twice that).",
        f"Always taking LoRA + TF-IDF costs {means['regret_lora+tfidf']:.1f} (not significantly",
        f"{simplest} within a standard error of the best costs {means['regret_simplest']:.1f}.",
        f"In {rules['samples']:,.0f} samples without LoRA",
        f"the highest costs {rules['advice']:.1f}, the simplest {rules['simplest']:.1f}.",
        f"on other texts that method has {luck:.1f} points less.",
    )
    assert round(rows.loc["imdb", "regret"] / means["regret"]) == 2
    assert len(rows) == 4 and [line for line in told if line not in part] == []
    predicted = text_of("docs/predictions.md")
    costs = rows["regret_simplest"]
    each = [f"{costs[task]:.1f}" for task in ("imdb", "r8", "20newsgroups")]
    assert f"when time ended: {', '.join(each)}." in predicted
    less = means["regret_simplest"] - means["regret"]
    assert f"It was {less:.1f} on all four tasks, so the rule has changed." in predicted


def test_the_intervals_of_folds_hold_the_truth_as_often_as_told():
    samples = pd.read_csv(RESULTS / "own_texts.csv")
    is_held = samples["truth"].between(samples["accuracy_low"], samples["accuracy_high"])
    held = is_held.groupby(samples["method"]).agg(["sum", "count"])
    told = " ".join(text_of("docs/statistics.md").split())
    count, lora = held.loc["lora", "count"], held.loc["lora", "sum"]
    assert f"in {count} samples of 300 texts, [{lora} intervals]" in told
    assert f"(LoRA + TF-IDF: {held.loc['lora+tfidf', 'sum']})." in told


def test_lora_leads_a_probe_with_tfidf_by_two_to_three_points_on_sentences():
    assert "LoRA's two to three points on sentences" in " ".join(text_of(FINDINGS).split())
    for name in ("main-rotten", "main-2000-rotten"):
        runs = pd.read_csv(RESULTS / name / "runs.csv").groupby("method")["test_accuracy"].mean()
        assert 2 < 100 * (runs["lora"] - runs["probe+tfidf"]) < 3


def test_the_first_run_in_the_readme_is_that_of_its_file():
    printed = re.findall(r"^    (\w+) seed 0: test accuracy ([\d.]+)%", text_of(README), re.M)
    runs = pd.read_csv(RESULTS / "quick.csv").set_index("method")["test_accuracy"]
    assert dict(printed) == {method: f"{100 * share:.2f}" for method, share in runs.items()}


def test_the_answer_in_the_readme_is_that_of_its_experiment():
    page, folder = text_of("docs/results/sentences/report.md"), RESULTS / "sentences"
    printed = re.search(r"^ +method  .*?(?=\n\n)", text_of(README), re.M | re.S)[0]
    table, advice = printed.split("    [...]\n")
    assert table.count("\n") == 3
    for line in table.splitlines()[1:]:
        cells = re.fullmatch(r" +(.*?) (\d\S+ \(.*?\)) +(.*)", line).groups()
        assert re.search(r"\| {} \| {} \| [^|]+ \| {} \|".format(*map(re.escape, cells)), page)
    assert f"**{' '.join(advice.split())}**" in page
    runs = pd.read_csv(folder / "runs.csv")
    frozen = runs.groupby("frozen_blocks")["shared_seconds"].max()
    assert round((runs["run_seconds"].sum() + frozen.sum()) / 60) == 5


def test_the_sentences_of_the_readme_are_a_sample_of_rotten_tomatoes(tmp_path):
    task = load_task("rotten-tomatoes")
    rows = task.rows.sample(800, random_state=0)[["text", "label"]]
    rows["label"] = [task.label_names[label] for label in rows["label"]]
    rows.to_csv(path := tmp_path / "sentences.csv", index=False)
    experiment = json.loads((RESULTS / "sentences" / "experiment.json").read_text())
    assert load_task(str(path)).digest == experiment["digests"]["data digest"]


def test_the_lesson_is_as_long_as_the_readme_says():
    pattern = r"\*\*The lesson\*\*, about ([\d,]+) lines(.*?)\n\n"
    lines, lesson = re.search(pattern, text_of(README), re.S).groups()
    files = re.findall(r"\]\(([^)]+)\)", lesson)
    counted = sum(len(text_of(file).splitlines()) for file in files)
    assert len(files) == 6 and abs(counted / int(lines.replace(",", "")) - 1) < 0.1


def test_readme_findings_guide_and_all_documents_are_short():
    guide = [f"docs/guide/{path.name}" for path in (ROOT / "docs/guide").glob("*.md")]
    words = {page: len(text_of(page).split()) for page in [*PAGES, *guide]}
    assert words[README] <= 650 and words[FINDINGS] <= 2000 and sum(words.values()) <= 14_000
    assert sum(words[page] for page in guide) <= 7500
    assert words["docs/guide/13-which-method.md"] <= 300  # the page to print


def long_sentences(prose):
    """Those of more than 25 words; cells, headings and points of a list end a sentence."""
    parts = re.split(r"\n\s*\n|\n(?=[-#]|\d+\. )|\|", prose)
    sentences = [s for part in parts for s in re.split(r"(?<=[.!?:;])\W*\s+", part)]
    return [sentence for sentence in sentences if len(sentence.split()) > 25]


@pytest.mark.parametrize("page", PROSE)
def test_a_sentence_has_at_most_25_words(page):
    text = re.sub(r"```.*?```|^    .*?$|!\[.*?\]\(.*?\)|^> ?", "", text_of(page), flags=re.M | re.S)
    assert long_sentences(re.sub(r"`[^`]*`|(?<=\])\([^)]*\)", "X", text)) == []
