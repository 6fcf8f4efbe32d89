"""What README and docs say: every number is that of the file it names.

Tables are compared row by row. A failure prints the rows that the page should have: copy them.
"""

import re
from pathlib import Path

import pandas as pd
import pytest
import torch
from transformers import DistilBertConfig, DistilBertForSequenceClassification

import finetuning
from evaluation.results import Results
from evaluation.style import METHODS as LOOKS
from modeling import METHODS

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
WORDS = {1: "one", 2: "two", 3: "three", 4: "four", 5: "five"}


def text_of(page):
    return (ROOT / page).read_text(encoding="utf-8")


def row(*cells):
    return "| " + " | ".join(map(str, cells)) + " |"


def number(value):
    """Three digits, as people write them: 10,600; nothing for what was not measured."""
    return "" if pd.isna(value) else f"{float(f'{value:.3g}'):,.10g}"


def assert_rows(page, rows):
    lines = text_of(page).splitlines()
    missing = [expected for expected in rows if re.sub(r"\|  (?=\|)", "| ", expected) not in lines]
    assert not missing, f"{page} lacks\n" + "\n".join(missing)


def assert_phrases(page, phrases):
    text = " ".join(text_of(page).split())
    missing = [phrase for phrase in phrases if phrase not in text]
    assert not missing, f"{page} lacks\n" + "\n".join(missing)


def mean_and_sd(losses, accuracies):
    loss, accuracy = f"{losses.mean():.3f} ± {losses.std():.3f}", 100 * accuracies
    return loss, f"{accuracy.mean():.1f} ± {accuracy.std():.1f} %"


def best_epochs(table, keys, loss="validation_loss"):
    """Of each run, the row of the epoch with the lowest validation loss."""
    return table.loc[table.groupby(keys, sort=False)[loss].idxmin()]


# ---------------------------------------------------------------------------- docs/findings.md


DECIMAL = re.compile(r"(?<![\w.,])−?\d[\d,]*\.\d+(?!\w|\.\d)")
FINDINGS = re.split(r"^## (?=\d)", text_of("docs/findings.md"), flags=re.MULTILINE)


@pytest.mark.parametrize("finding", FINDINGS[1:], ids=lambda text: text.partition("?")[0])
def test_the_numbers_of_a_finding_are_those_of_the_pages_that_it_links(finding):
    paragraphs = finding.split("\n\n")[1:]
    prose = "\n".join(p for p in paragraphs if not p.startswith(("    ", "*Expected")))
    links = re.findall(r"\]\(([^)#]+\.md)[^)]*\)", prose)
    known = {n for link in links for n in DECIMAL.findall(text_of(f"docs/{link}"))}
    said = DECIMAL.findall(re.sub(r"arXiv:\S+|`[^`]*`", "", prose))
    assert [number for number in said if number not in known] == []


def test_the_numbers_of_the_answers_are_those_of_their_findings():
    rows = re.findall(r"^\| (\d+) \|[^|]*\|(.*)$", FINDINGS[0], re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, len(FINDINGS)))
    for (_, answer), finding in zip(rows, FINDINGS[1:], strict=True):
        assert set(DECIMAL.findall(answer)) <= set(DECIMAL.findall(finding))


def test_the_effective_ranks_of_the_findings_are_those_of_their_file():
    changes = pd.read_csv(RESULTS / "imdb" / "changes.csv")
    full, lora = (
        changes[changes["method"] == name].groupby("place")["effective_rank"].mean()
        for name in ("full", "lora")
    )
    phrases = [f"is {full.min():.0f} to {full.max():.0f} by matrix"]
    phrases.append(f"LoRA's own is {lora.min():.0f} to {lora.max():.0f}")
    assert_phrases("docs/findings.md", phrases)


# ---------------------------------------------------------------------------- docs/performance.md


def test_the_table_of_speeds_is_that_of_its_file():
    speeds, page = pd.read_csv(RESULTS / "training_speed.csv"), "docs/performance.md"
    rows = [
        row(
            *(r.system, LOOKS[r.method].label, number(r.reviews_per_second)),
            *(number(r.tokens_per_second), f"{100 * r.model_flops_utilisation:.0f} %"),
            number(r.peak_memory_mib),
        )
        for r in speeds.itertuples()
    ]
    assert_rows(page, rows)
    rounds = speeds["repeats"].iloc[0]
    assert_phrases(page, [speeds["device"].iloc[0], f"{WORDS[rounds]} rounds in turn"])


def test_the_table_of_seconds_by_blocks_is_that_of_the_runs():
    runs, rows = pd.read_csv(RESULTS / "depth" / "runs.csv"), []
    seconds = runs.pivot_table(["training_seconds", "shared_seconds"], "blocks", "name")
    for blocks, by_name in seconds[::-1].iterrows():
        cells = [f"{blocks:.0f}"]
        for name in ("lora", "adapter"):
            own, whole = (seconds["training_seconds"][name][b] for b in (blocks, 6))
            cells += [f"{own:.1f}", f"{own / whole:.2f} x"]
        rows.append(row(*cells, f"{by_name['shared_seconds', 'lora']:.1f}"))
    assert len(rows) == 6
    assert_rows("docs/performance.md", rows)


def test_the_table_of_memory_is_that_of_its_file():
    rows, memory = [], pd.read_csv(RESULTS / "training_memory.csv")
    for component, part in memory.groupby("component", sort=False):
        values = part.set_index("method")[["computed_mib", "measured_mib"]]
        rows.append(row(component, *map(number, [*values.loc["lora"], *values.loc["full"]])))
    assert_rows("docs/performance.md", rows)


def test_the_tables_of_checks_are_those_of_their_files():
    for name in ("training", "frozen_blocks", "frozen_blocks_base"):
        rows, facts = [], pd.read_csv(RESULTS / f"{name}_checks.csv")
        for what, part in facts.groupby("what", sort=False):
            rows.append(row(what, *map(number, part[["measured", "floor"]].to_numpy().flatten())))
        assert_rows("docs/performance.md", rows)
    facts = pd.read_csv(RESULTS / "frozen_blocks_checks.csv").set_index(["what", "blocks"])[
        "measured"
    ]
    ahead = facts["lora: times as fast as peft tuned"].map(number)
    assert_phrases("README.md", [f"{' and '.join(ahead)} times as fast as a well-tuned `peft`"])
    three, two = facts["lora: an epoch, against the same on all"].map("{:.2f}".format)
    assert_phrases("README.md", [f"takes {three} of the time of all six, in the last 2 {two};"])


def test_the_table_of_losses_before_and_after_is_that_of_its_file():
    table = pd.read_csv(RESULTS / "fast_and_plain.csv")
    seeds, means = {}, []
    for method in ("lora", "adapter"):
        for form in ("plain", "fast"):
            loss, accuracy = f"validation_loss_{form}", f"validation_accuracy_{form}"
            best = best_epochs(table[table["method"] == method], "seed", loss)
            means.append(mean_and_sd(best[loss], best[accuracy]))
            for seed, a, b in zip(best["seed"], best[loss], best[accuracy], strict=True):
                seeds.setdefault(seed, []).append(f"{a:.3f}, {100 * b:.1f} %")
    rows = [row(seed, *cells) for seed, cells in seeds.items()]
    names = "loss, mean ± sd", "accuracy, mean ± sd"
    rows += [row(name, *cells) for name, cells in zip(names, zip(*means, strict=True), strict=True)]
    assert_rows("docs/performance.md", rows)


# ---------------------------------------------------------------------------- the other pages


def test_the_table_of_coverage_is_that_of_its_file():
    rows = []
    for r in pd.read_csv(RESULTS / "statistics.csv").itertuples():
        shares = [f"{100 * x:.1f}" for x in (r.coverage, r.claims, r.experiments_with_a_claim)]
        counts = r.seeds.replace(" ", ", "), f"{r.reviews:,}", f"{r.seed_sd_points:g}"
        margin = f"{100 * r.equivalent_at_the_margin:.1f}"
        rows.append(row(*counts, *shares, f"{r.half_width_points:.2f}", margin))
    assert_rows("docs/statistics.md", rows)


def test_the_table_of_learning_rates_is_that_of_its_file_and_the_chosen_are_the_defaults():
    rows, table = [], pd.read_csv(RESULTS / "tuning" / "tuning.csv")
    for method, tried in table.groupby("method", sort=False):
        cells = []
        for r in tried.itertuples():
            cell = f"{r.validation_loss:.3f}, {100 * r.validation_accuracy:.1f} %"
            cells.append(f"**{cell}**" if r.chosen else cell)
        middle = tried["learning_rate"].iloc[len(tried) // 2]
        rows.append(row(f"{LOOKS[method].label}, around {middle:g}", *cells))
    assert_rows("docs/choices.md", rows)
    chosen = table[table["chosen"]].set_index("method")["learning_rate"].to_dict()
    assert chosen.items() <= finetuning.LEARNING_RATES.full.items()


def test_the_rates_at_base_size_are_those_of_their_file_and_the_presets():
    rows, table = [], pd.read_csv(RESULTS / "base-tuning" / "tuning.csv")
    for method in ("head", "adapter", "lora", "full"):
        tried, cells = table[table["method"] == method].set_index("learning_rate"), []
        for rate in sorted(table["learning_rate"].unique()):
            cell = ""
            if rate in tried.index:
                r = tried.loc[rate]
                cell = f"{r.validation_loss:.3f}, {100 * r.validation_accuracy:.1f} %"
                cell = f"**{cell}**" if r.chosen else cell
            cells.append(cell)
        rows.append(row(LOOKS[method].label, *cells))
    assert_rows("docs/choices.md", rows)
    chosen = table[table["chosen"]].set_index("method")["learning_rate"].to_dict()
    assert chosen.items() <= finetuning.LEARNING_RATES.base.items()


def test_quicks_rates_have_the_lowest_validation_loss_with_1200_reviews_and_loras_with_all():
    with_all = pd.read_csv(RESULTS / "labels-all" / "runs.csv")
    with_all = with_all[with_all["name"] == "lora"].groupby("learning_rate")["validation_loss"]
    assert with_all.mean().idxmin() == finetuning.LEARNING_RATES.quick["lora"]
    runs = pd.read_csv(RESULTS / "rates" / "runs.csv")
    means = runs.groupby(["name", "learning_rate"])["validation_loss"].mean().unstack()
    rows = []
    for method in ("adapter", "lora", "full"):
        losses = means.loc[method]
        assert method == "lora" or losses.idxmin() == finetuning.LEARNING_RATES.quick[method]
        cells = [f"**{x:.3f}**" if x == losses.min() else f"{x:.3f}" for x in losses]
        rows.append(row(LOOKS[method].label, *("" if "nan" in cell else cell for cell in cells)))
    assert_rows("docs/choices.md", rows)


def test_the_tables_of_encoder_dropout_are_those_of_their_files():
    folder, rows = RESULTS / "choices", []
    best = best_epochs(pd.read_csv(folder / "encoder_dropout.csv"), ["encoder_dropout", "seed"])
    names = {0: "0", 0.1: "0.1 (the model's own)"}
    for rate, runs in best.groupby("encoder_dropout"):
        cells = mean_and_sd(runs["validation_loss"], runs["validation_accuracy"])
        rows.append(row(names[rate], *cells))
    for method, steps in pd.read_csv(folder / "encoder_dropout_step.csv").groupby("method"):
        rows.append(row(LOOKS[method].label, *(f"{ratio:.1f} x" for ratio in steps["ratio"])))
    assert_rows("docs/choices.md", rows)


def test_the_table_of_truncation_is_that_of_its_file():
    table, rows = pd.read_csv(RESULTS / "choices" / "truncation.csv"), []
    for method, runs in table.groupby("method", sort=False):
        sides = [runs[runs["truncation"] == side] for side in ("left", "right")]
        cells = [mean_and_sd(s["validation_loss"], s["validation_accuracy"]) for s in sides]
        rows.append(row(LOOKS[method].label, *cells[0], *cells[1]))
    assert_rows("docs/choices.md", rows)


def test_the_accuracies_of_both_types_of_states_are_those_of_their_file():
    types = pd.read_csv(RESULTS / "choices" / "states_type.csv").groupby("states")["test_accuracy"]
    bf16, wide = ("{:.1f}, {:.1f} and {:.1f} %".format(*100 * seeds) for _, seeds in types)
    assert_phrases("docs/choices.md", [f"{wide} in the place of {bf16}"])


def test_readmes_counts_of_parameters_are_the_models():
    ends = []
    for method in map(METHODS.get, ("head", "adapter", "lora", "bitfit", "full")):
        with torch.device("meta"):
            model = method(DistilBertForSequenceClassification(DistilBertConfig()))
        trained, total = model.count_parameters()
        share, size = 100 * trained / total, 4 * trained / 1e6  # 4 bytes a parameter
        share = "100" if trained == total else f"{share:.3f}"
        size = f"{size:.1f}" if size < 100 else f"{size:.0f}"
        file = method.__module__.replace(".", "/") + ".py"
        ends.append(f"({file}) | {trained:,} | {share} | {size} MB |")
    assert_phrases("README.md", ends)


def test_readmes_numbers_of_the_experiment_are_those_of_its_files():
    results = Results.read(RESULTS / "base")
    about, runs, pairs = results.experiment, results.runs, results.comparisons
    same = pairs[pairs["p_holm"] >= 0.05]
    (pair,) = same.itertuples()  # README: but that of the first two
    accuracies = results.intervals.sort_values("accuracy", ascending=False)
    assert {pair.method_a, pair.method_b} == set(accuracies["method"][:2])
    assert (Results.read(RESULTS / "imdb").intervals.set_index("method")["accuracy"]).idxmax() == (
        "tfidf"  # README: nothing beats word counts
    )
    data, tokens = about["data"], about["constants"]["max_tokens"]
    labels = {"tfidf": "word counts (TF-IDF)"}
    of = [
        f"{labels.get(m, LOOKS[m].label)} {100 * a:.1f}"
        for m, a in accuracies[["method", "accuracy"]].to_numpy()
    ]
    of[0] += " %"
    points = [f"{100 * x:.1f}".replace("-", "−") for x in (pair.difference, pair.low, pair.high)]
    sizes = [
        Results.read(RESULTS / name).runs.query("method == 'head'")["total_parameters"].iloc[0]
        for name in ("base", "imdb")
    ]
    phrases = [
        f"encoders of {sizes[0] / 1e6:.0f} and of {sizes[1] / 1e6:.1f} million parameters",
        f"{data['train']:,} training reviews, their last {tokens} tokens, "
        f"{WORDS[runs['seed'].nunique()]} seeds, {data['test']:,} test reviews",
        f"**{', '.join(of)}.**",
        f"{points[0]} points ({points[1]} to {points[2]})",
    ]
    assert_phrases("README.md", phrases)
