"""The page says what the files say: verdicts, doubts, mistakes, and other people's text as text."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from made_up import EXPERIMENT, TESTS, add, add_depths, add_tuning, begin

from evaluation import html, markdown, plots, report, tables
from evaluation.results import Results

TEXTS = [f"review {i}" for i in range(TESTS)]


@pytest.fixture
def folder(tmp_path):
    begin(tmp_path)
    for seed in (0, 1, 2):
        add(tmp_path, "head", seed, right=16 + seed), add(tmp_path, "lora", seed, right=37 + seed)
        add(tmp_path, "adapter", seed, right=36 + seed)
    return tmp_path


def page(folder, texts=None):
    return report.page(Results.read(folder, texts), {})


def section(text, title):
    """What stands under a heading, or opens with it."""
    for start in (f"\n## {title}\n", f"<summary>{title}</summary>"):
        if start in text:
            return re.split(r"\n## |</details>", text.split(start)[1])[0]
    raise AssertionError(f"no {title}")


PAIRS = "Exploratory comparisons: all pairs"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """An experiment's folder with its page and figures; drawing takes most of the time."""
    folder = tmp_path_factory.mktemp("written")
    begin(folder)
    for seed in (0, 1):
        add(folder, "head", seed, right=16 + seed), add(folder, "lora", seed, right=37 + seed)
    add(folder, "lora(targets=('q', 'v'))", 0)
    add(folder, "bitfit", 0, status="failed: the loss is nan at step 3")
    report.write(Results.read(folder, TEXTS))
    return folder


def test_the_page_from_the_files_alone_is_the_one_written_at_once(written):
    at_once = {path: path.read_bytes() for path in written.glob("*.*")}
    for path in at_once:
        if path.suffix in (".png", ".md", ".html"):
            path.unlink()
    assert report.main([str(written)]) == 0
    assert {path: path.read_bytes() for path in written.glob("*.*")} == at_once


def test_every_figure_is_linked_once_and_every_link_leads_to_one(written):
    figures = [path.name for path in written.glob("*.png")]
    text = (written / "report.md").read_text(encoding="utf-8")
    links = [part.split(")")[0] for part in text.split("](") if ".png)" in part]
    assert sorted(links) == sorted(figures)


def verdicts(text):
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if " − " in line]
    return {row[0]: row[-1] for row in rows}


def test_verdicts_come_from_the_paired_tests(folder):
    found = section(page(folder), "Findings")
    assert "**Highest mean test accuracy: LoRA, 95.0 %** (95 % interval 88.8 to 100.0)." in found
    assert "There is **no** significant difference from adapters." in found
    assert "not varied" not in found
    assert verdicts(section(page(folder), PAIRS)) == {
        "LoRA − head-only": "LoRA better",
        "adapters − head-only": "adapters better",
        "LoRA − adapters": "undecided",
    }


def test_planned_contrasts_come_first_with_holm_over_those_alone(folder):
    contrasts = ["head - lora", "adapter - lora", "lora - probe"]
    constants = EXPERIMENT["constants"] | {"contrasts": contrasts, "equivalence_margin": 0.3}
    begin(folder, constants=constants)
    text = page(folder)
    planned = section(text, "Planned contrasts")
    assert text.index("## Planned contrasts") < text.index("## Results")
    assert verdicts(planned) == {
        "head-only − LoRA": "LoRA better",
        "adapters − LoRA": "equivalent within 30 points",
    }
    assert "−52.5" in planned and "1 planned contrast without finished runs." in planned
    results = Results.read(folder)
    p = results.contrasts.sort_values("p")[["p", "p_holm"]].to_numpy()
    assert p[0, 1] == pytest.approx(2 * p[0, 0])
    assert verdicts(section(text, "Exploratory comparisons: all other pairs")) == {
        "adapters − head-only": "adapters better"
    }


def test_one_seed_claims_nothing_of_other_seeds(tmp_path):
    begin(tmp_path)
    add(tmp_path, "head", 0, right=16), add(tmp_path, "lora", 0, right=38)
    text = page(tmp_path)
    assert "**Seeds were not varied for head-only, LoRA**: intervals and tests speak of" in text
    assert "t over" not in text and "mean test accuracy" not in text
    assert "exact McNemar" in text
    add(tmp_path, "lora", 1, right=37), add(tmp_path, "tfidf", 0, right=10)
    assert "**Seeds were not varied for head-only**" in page(tmp_path)
    begin(tmp_path, constants=EXPERIMENT["constants"] | {"redraw_labels": True})
    assert "**Seeds were not varied for head-only, TF-IDF**" in page(tmp_path)
    all_labels = {"redraw_labels": True, "labels": None}  # a baseline has nothing to draw
    begin(tmp_path, constants=EXPERIMENT["constants"] | all_labels)
    assert "**Seeds were not varied for head-only**" in page(tmp_path)


def test_seeds_that_only_one_method_has_are_said(tmp_path):
    said = "A difference is of the seeds that both methods have."
    begin(tmp_path)
    for seed in range(3):
        add(tmp_path, "head", seed, right=20 + seed), add(tmp_path, "lora", seed, right=30)
    assert said not in page(tmp_path)
    add(tmp_path, "head", 3)
    assert said in page(tmp_path)


def test_one_method_is_compared_with_nothing(tmp_path):
    begin(tmp_path)
    add(tmp_path, "head", 0)
    text = page(tmp_path)
    assert "omparisons" not in text and "significant" not in text


def test_more_than_two_labels_have_macro_f1_and_a_table_of_their_own(tmp_path):
    assert "macro-F1" not in page(folder_of(tmp_path / "two", ["bad", "good"]))
    text = page(folder_of(tmp_path / "three", ["a", "b", "c"]))
    head = section(text, "Results").splitlines()[1]
    assert "macro-F1, %" in head and "calibration error, points" in head
    rows = section(text, "Labels").splitlines()
    assert "| label | test reviews | head-only, F1 % |" in rows
    assert any(row.startswith("| a | 14 | ") for row in rows)


def folder_of(path, labels):
    begin(path, label_names=labels)
    add(path, "head", 0, labels=labels)
    return path


def test_labels_are_counted_in_all_and_groups_are_said(folder):
    data = EXPERIMENT["data"] | {"groups": {"train": 3, "validation": 2, "test": 1234}}
    constants = EXPERIMENT["constants"] | {"redraw_labels": True}
    begin(folder, data=data, constants=constants)
    for path in folder.glob("*/predictions.csv"):
        pd.read_csv(path).assign(group=np.arange(TESTS) // 2).to_csv(path, index=False)
    text = page(folder)
    assert "bootstrap over groups, t over" in text and "McNemar" not in text
    said = "14 labelled reviews in all, of which 4 validate, drawn anew for each seed; 40 test"
    assert said in text
    begin(folder, data=data, constants=constants | {"labels": None})
    assert "drawn anew" not in page(folder)  # all texts that there are
    groups = "Groups: 3 train, 2 validation, 1,234 test; none is in two splits.\n"
    assert groups in text


def test_what_trains_the_last_blocks_is_no_full_fine_tuning(tmp_path):
    begin(tmp_path)
    for method, blocks in (("full", 3), ("full(blocks=1)", 1), ("lora", 3)):
        add(tmp_path, method, 0, record={"hyperparameters": {"blocks": blocks}})
    first = page(tmp_path).split("\n## ")[0]
    assert "LoRA, fine-tuning of the last 3 blocks, fine-tuning of the last block**" in first
    assert "full" not in first
    add(tmp_path, "full", 0, record={"hyperparameters": {"blocks": None}})
    assert "full fine-tuning" in page(tmp_path).split("\n## ")[0]


def test_a_baseline_has_a_dash_where_it_has_no_value(folder):
    add(folder, "tfidf", 0, right=20)
    text = page(folder)
    row = next(x for x in section(text, "Results").splitlines() if "TF-IDF" in x)
    start = "| TF-IDF | 1 | 50.0 | 35.2 to 64.8 | — | 90.0 | 0.500 | "
    assert row.startswith(start) and row.endswith(" | — | — | 3 | 100 |")


def test_single_runs_have_wilsons_interval(folder):
    """38 of 40: the centre (x + z²/2) / (n + z²), by hand."""
    z, n, p = 1.959963984540054, 40, 38 / 40
    centre, half = p + z**2 / 2 / n, z * (p * (1 - p) / n + z**2 / 4 / n**2) ** 0.5
    low, high = ((centre + sign * half) / (1 + z**2 / n) for sign in (-1, 1))
    assert f"| LoRA | 1 | 95.0 | {100 * low:.1f} to {100 * high:.1f} |" in page(folder)


def test_failed_runs_are_listed(folder):
    add(folder, "bitfit", 0, status="failed: the loss is nan at step 3")
    text = page(folder)
    assert "| BitFit | 0 | failed: the loss is nan at step 3 |" in section(text, "Failed runs")


def test_other_work_on_the_machine_is_said_once(folder):
    assert "other work" not in page(folder)
    for run, load in (("lora-seed0", 0.9), ("lora-seed2", 1.5), ("head-seed0", 0.4)):
        path = folder / run / "run.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"other_load": load}))
    said = "The machine did other work during 2 of 9 runs: their seconds and memory say little."
    assert page(folder).count("other work") == 1 and said in section(page(folder), "Results")


def test_the_shared_pass_stands_beside_training(tmp_path):
    """Head-only trains for 1 s after a pass of 15; LoRA in the last block for 5 after 12.5."""
    begin(tmp_path)
    add_depths(tmp_path)
    for method, seconds, shared in (("tfidf", 17.0, None), ("full", 17.2, 0.0)):
        record = {"training_seconds": seconds, "shared_seconds": shared, "frozen_blocks": 0}
        add(tmp_path, method, 0, record=record)
    results = Results.read(tmp_path)
    text = report.page(results, {})
    table = [row.split(" | ") for row in section(text, "Results").splitlines() if " | " in row]
    columns = [table[0].index(name) for name in ("training, s", "shared pass, s")]
    cells = {row[0].strip("| "): [row[i] for i in columns] for row in table}
    assert cells["head-only"] == ["1", "15"] and cells["LoRA (blocks=1)"] == ["5", "12.5"]
    assert cells["full fine-tuning"] == ["17.2", "0"] and cells["TF-IDF"] == ["17", "—"]
    assert "Shared pass through 5 frozen blocks: 12.5 s, for 6 runs." in text.split("\n## ")[0]
    line = next(x for x in tables.terminal(results).splitlines() if "LoRA (blocks=1)" in x)
    assert line.split()[-3:] == ["5", "12.5", "2"]


def test_the_terminals_table_has_a_row_for_each_finished_run(folder):
    add(folder, "tfidf", 0), add(folder, "lora(rank=4)", 0)
    lines = tables.terminal(Results.read(folder)).splitlines()
    assert len(lines) == 12 and len({len(line) for line in lines}) == 1
    assert any(line.split()[:4] == ["LoRA", "(rank=4)", "0", "75.00"] for line in lines)


def test_the_most_confident_mistakes_are_on_the_page(folder):
    texts = list(TEXTS)
    texts[39] = "<script>alert(1)</script> | *loud*\n\n# no heading" + " more" * 9
    text = page(folder, texts)
    assert "The most confident of 1 review wrong in every seed of every method." in text
    shown = r"&lt;script&gt;alert(1)&lt;/script&gt; \| \*loud\* # no heading more more …"
    row = f"| 39 | good | bad | 88.1 | {shown} |"
    assert row in section(text, "Reviews misclassified by every method")


# ------------------------------------------------------------------ report.html


class Reader(HTMLParser):
    """The tags of a page, and its text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.words = [], []
        self.feed(page)
        self.text = " ".join("".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.words.append(data)


def test_the_html_page_is_one_file_with_its_figures_inside(written):
    read = Reader((written / "report.html").read_text(encoding="utf-8"))
    images = [attributes for tag, attributes in read.tags if tag == "img"]
    assert len(images) == len(list(written.glob("*.png")))
    assert all(image["src"].startswith("data:image/png;base64,iVBOR") for image in images)
    assert all(image["alt"].endswith("?") for image in images)
    links = {"src", "href", "action", "data", "poster", "srcset"}
    outside = [a[name] for _, a in read.tags for name in links & a.keys()]
    assert all(link.startswith("data:") for link in outside)
    assert [tag for tag, _ in read.tags].count("table") == 6
    assert "title" in dict(read.tags) and "details" in dict(read.tags)
    assert "How it was made" in read.text and "LoRA − head-only 52.5" in read.text


def test_other_peoples_text_stays_text_in_the_html_page(tmp_path):
    bad = "<script>alert(1)</script>"
    begin(
        tmp_path,
        label_names=[bad, "<img src=x>"],
        model=f"my {bad} [model](javascript:alert(1))",
        data=EXPERIMENT["data"] | {"notes": [f"<b>note</b> {bad}"]},
        constants=EXPERIMENT["constants"] | {"experiment": f"t{bad}"},
    )
    add(tmp_path, "head", 0, labels=[bad, "<img src=x>"])
    add(tmp_path, f"mine{bad.replace('/', '')}", 0, labels=[bad, "<img src=x>"])
    add(tmp_path, "lora", 0, status=f"failed: {bad}")
    for path in tmp_path.glob("*/run.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"experiment": f"t{bad}"}))
    text = page(tmp_path, [f"{i} {bad} <iframe> </table> &lt;" for i in range(TESTS)])
    read = Reader(html.page(text, tmp_path))
    tags = {tag for tag, _ in read.tags}
    assert not tags & {"script", "img", "iframe", "b", "a"}
    assert read.text.count(bad) >= 10 + 5  # the reviews shown, and the rest
    assert f"39 {bad} <iframe> </table> &lt;" in read.text
    assert "[model](javascript:alert(1))" in read.text


# ------------------------------------------------------------------ numbers and commands


def test_any_text_is_one_line_that_shows_as_it_is():
    given = "a|b <br /> **c**\r\n_d_ `e` [f](g) ~~h~~ \\ $i$ \x07&amp; 🙂\u2028j"
    shown = (
        r"a\|b &lt;br /&gt; \*\*c\*\* \_d\_ \`e\` \[f\](g) \~\~h\~\~ \\ "
        "<span>$</span>i<span>$</span> &amp;amp; 🙂 j"
    )
    assert markdown.escape(given) == shown


@pytest.mark.parametrize(
    ("p", "text"), [(0.0009, "< 0.001"), (0.00123, "0.0012"), (0.0499, "0.050"), (1, "1.0")]
)
def test_p_has_two_digits(p, text):
    assert markdown.p_value(p) == text


def test_numbers_have_a_real_minus_and_no_negative_zero():
    assert markdown.interval(-0.0123, 0.0456) == "−1.2 to 4.6"
    assert markdown.percent(-0.0001) == "0.0" and markdown.percent(float("nan")) == "—"
    assert [markdown.size(x) for x in (0.6283, 11.94, 1201.2)] == ["0.628", "11.9", "1,201"]


def test_the_page_names_the_code_the_command_and_every_constant(folder):
    made = section(page(folder), "How it was made")
    assert "- code: 0123abcd+\n" in made
    assert f"    {EXPERIMENT['command']}\n" in made
    for name, value in EXPERIMENT["constants"].items():
        assert f"| {name.upper()} | {markdown.escape(json.dumps(value))} |" in made


def test_a_tunings_folder_gets_its_figure(tmp_path, capsys):
    add_tuning(tmp_path)
    assert report.main([str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'tuning.png'}\n"


@pytest.mark.parametrize(
    "damage", ["nothing", "folder", "predictions", "json", "csv", "page", "arguments"]
)
def test_what_cannot_be_reported_is_one_line_and_exit_status_2(
    folder, capsys, damage, without_figures
):
    arguments, message = [str(folder)], "cannot be read"
    if damage == "nothing":
        for path in folder.glob("*/run.json"):
            path.unlink()
        message = "has no finished runs"
    elif damage == "folder":
        arguments, message = [str(folder / "missing")], "missing is no folder"
    elif damage == "predictions":
        (folder / "lora-seed1" / "predictions.csv").unlink()
        message = "predictions.csv cannot be read"
    elif damage == "json":
        (folder / "experiment.json").write_text("{")
    elif damage == "csv":
        (folder / "lora-seed0" / "history.csv").write_bytes(b"\xff\xfe\x00")
    elif damage == "page":
        (folder / "report.md").mkdir()  # where the page is to be written
        message = "cannot be written to"
    else:
        arguments, message = [], "give one folder"
    assert report.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and message in error


def test_traceback_shows_where_bad_input_was_found(folder, capsys):
    (folder / "experiment.json").write_text("{")
    assert report.main(["--traceback", str(folder)]) == 2
    error = capsys.readouterr().err
    assert "Traceback" in error and error.splitlines()[-1].startswith("error: ")


def test_a_figure_that_cannot_be_drawn_costs_a_line_and_not_the_page(folder, monkeypatch, capsys):
    def broken(_, **more):
        raise ValueError("a bug")

    monkeypatch.setattr(plots.comparisons, "bars", broken)
    monkeypatch.setattr(plots, "learning_curves", broken)
    assert report.main([str(folder)]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 7 and "train_accuracy.png was not drawn (ValueError: a bug)" in lines[0]
    text = (folder / "report.md").read_text(encoding="utf-8")
    assert "(differences.png)" in text and "(test_accuracy.png)" not in text
