"""The page says what the files say: verdicts, doubts, mistakes, and other people's text as text."""

import base64
import codecs
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from conftest import raising
from made_up import EXPERIMENT, TESTS, add, add_folds, add_run, begin, begin_folds, predicted

from evaluation import comparisons, errors, html, markdown, plots, report, tables
from evaluation.metrics import METRICS
from evaluation.results import Results

TEXTS = [f"text {i}" for i in range(TESTS)]
PAIRS = "Exploratory comparisons: all pairs"


def page(folder, texts=None):
    return report.page(Results.read(folder, texts), {})


def section(text, title):
    """What stands under a heading, or opens with it."""
    for start in (f"\n## {title}\n", f"<summary>{title}</summary>"):
        if start in text:
            return re.split(r"\n## |</details>", text.split(start)[1])[0]
    raise AssertionError(f"no {title}")


def rows_of(text):
    """The rows of its tables: the cells by the first one, which names a method or a difference."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {row[0]: row[1:] for row in lines}


def verdicts(text):
    return {pair: cells[-1] for pair, cells in rows_of(text).items() if " − " in pair}


@pytest.fixture
def folder(tmp_path):
    begin(tmp_path)
    for seed in (0, 1, 2):
        add(tmp_path, "head", seed, right=16 + seed), add(tmp_path, "lora", seed, right=37 + seed)
        add(tmp_path, "adapter", seed, right=36 + seed)
    return tmp_path


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
    text = (written / "report.md").read_text(encoding="utf-8")
    assert "| BitFit | 0 | failed: the loss is nan at step 3 |" in section(
        text, "Failed and unfinished runs"
    )
    links = re.findall(r"\]\((.*?\.png)\)", text)
    assert sorted(links) == sorted(path.name for path in written.glob("*.png"))


def test_verdicts_come_from_the_paired_tests(folder):
    findings = section(page(folder), "Findings")
    assert "**Highest test accuracy, %: LoRA, 95.0 (" in findings
    assert "There is **no** significant difference from adapters." in findings
    assert "not varied" not in findings
    assert verdicts(section(page(folder), PAIRS)) == {
        "LoRA − head-only": "LoRA better",
        "adapters − head-only": "adapters better",
        "LoRA − adapters": "not significant",
    }
    said = "A difference is of the seeds that both methods have."
    assert said not in page(folder)
    add(folder, "head", 3)
    assert said in page(folder)


def test_planned_contrasts_come_first_with_holm_over_those_alone(folder):
    contrasts = ["head - lora", "adapter - lora", "lora - probe"]
    begin(folder, constants={"contrasts": contrasts, "equivalence_margin": 0.3})
    text = page(folder)
    planned = section(text, "Planned contrasts")
    assert text.index("## Planned contrasts") < text.index("## Results")
    assert verdicts(planned) == {
        "head-only − LoRA": "LoRA better",
        "adapters − LoRA": "equivalent within 30 points",
    }
    assert "−52.5" in planned and "1 planned contrast without finished runs that pair." in planned
    results = Results.read(folder)
    p = results.contrasts.sort_values("p")[["p", "p_holm"]].to_numpy()
    assert p[0, 1] == pytest.approx(2 * p[0, 0])
    others = section(text, "Exploratory comparisons: all other pairs")
    assert verdicts(others) == {"adapters − head-only": "adapters better"}


def test_one_seed_claims_nothing_of_other_seeds_and_one_method_is_compared_with_nothing(tmp_path):
    begin(tmp_path)
    add(tmp_path, "head", 0, right=16)
    assert "omparisons" not in page(tmp_path) and "significant" not in page(tmp_path)
    add(tmp_path, "lora", 0, right=38)
    text = page(tmp_path)
    assert "**Seeds were not varied for head-only, LoRA**: intervals and tests speak of" in text
    assert "paired by text; of other texts, one run." in text
    add(tmp_path, "lora", 1, right=37)
    for method in ("tfidf", "probe", "probe+tfidf"):
        add(tmp_path, method, 0, right=10)
    assert "**Seeds were not varied for head-only**" in page(tmp_path)
    begin(tmp_path, data={"labels_redrawn": True})
    varied = "**Seeds were not varied for head-only, probe, probe + TF-IDF, TF-IDF**"
    assert varied in page(tmp_path)


def test_runs_that_have_not_finished_are_counted(tmp_path):
    begin(tmp_path)
    for method in ("head", "lora"):
        add(tmp_path, method, 0)
    assert "not finished" not in page(tmp_path)
    add(tmp_path, "lora", 1, status="unfinished")
    add(tmp_path, "head", 1, status="failed: the loss is nan at step 3")
    text = page(tmp_path)
    assert "1 of 4 runs not finished:" in section(text, "Failed and unfinished runs")
    assert "**Seeds were so far not varied for head-only, LoRA**" in text


@pytest.mark.parametrize("labels", [["bad", "good"], ["a", "b", "c"]])
def test_every_metric_is_a_column_and_more_than_two_labels_have_their_own_table(tmp_path, labels):
    begin(tmp_path, label_names=labels)
    add(tmp_path, "head", 0, right=30, labels=labels)
    results = Results.read(tmp_path)
    text = report.page(results, {})
    for metric in METRICS.values():
        assert metric.heading in text and metric.heading in tables.terminal(results)
    assert ("<summary>Labels</summary>" in text) == (len(labels) > 2)
    if len(labels) > 2:
        rows = rows_of(section(text, "Labels"))
        assert rows["label"] == ["test texts", "head-only, F1 %"]
        assert rows["a"] == ["14", f"{100 * 20 / (14 + 13):.1f}"]  # 10 right, 13 called a


def test_labels_are_counted_in_all_and_groups_and_warnings_are_said(folder):
    groups = {"train": 3, "validation": 2, "test": 1234}
    data = {"groups": groups, "labels_redrawn": True, "warnings": ["97 % have one *label*"]}
    begin(folder, data=data)
    for path in folder.glob("*/predictions.csv"):
        pd.read_csv(path).assign(group=np.arange(TESTS) // 2).to_csv(path, index=False)
    text = page(folder)
    assert "of other groups of texts and 3 seeds, paired by seed" in text
    said = "14 labelled texts in all, of which 4 validate, another training sample for each seed;"
    assert f"{said} 40" in text and "\n**97 % have one \\*label\\***\n" in text
    begin(folder, data=data | {"labels_redrawn": False})
    assert "another training sample" not in page(folder)  # all texts that there are
    assert "Groups: 3 train, 2 validation, 1,234 test; none is in two splits.\n" in text


def test_the_edge_of_the_learning_rates_tried_is_said(tmp_path):
    begin(tmp_path)
    losses = {"0.001": 0.6, "0.01": 0.51234, "0.1": None}
    for method, rate in (("head", 0.1), ("lora", 0.01)):
        add(tmp_path, method, 0, record={"rates_tried": losses, "learning_rate": rate})
    runs = section(page(tmp_path), "Learning, and single runs")
    assert "**At the edge of the learning rates tried: 1 run, of head-only.**" in runs
    assert "LEARNING\\_RATES" in runs and "| 0.001: 0.6; 0.1: — |" in runs
    add(tmp_path, "head", 0, record={"rates_tried": losses, "learning_rate": 0.01})
    assert "At the edge" not in page(tmp_path)


def test_collapsed_runs_and_other_work_on_the_machine_are_told_where_there_are_any(folder):
    assert "ollapsed" not in page(folder) and "other work" not in page(folder)
    table = predicted(np.arange(TESTS) % 2, np.tile([[2.0, 0.0]], (TESTS, 1)))
    add_run(folder, "lora", 3, table, record={"other_load": 0.9})
    add(folder, "head", 0, right=16, record={"other_load": 0.4})
    results = section(page(folder), "Results")
    rows = rows_of(results)
    at = rows["method"].index("collapsed")
    assert [rows[name][at] for name in ("head-only", "LoRA", "adapters")] == ["0", "1", "0"]
    assert "The machine did other work during 1 of 10 runs: their seconds and memory say" in results


@pytest.fixture(scope="module")
def answered(tmp_path_factory):
    """An experiment with folds, and its page; the combination of probe and TF-IDF is the best."""
    folder, truth = tmp_path_factory.mktemp("answered"), np.arange(TESTS) % 2
    asked = {"methods": ["tfidf", "probe", "probe+tfidf"]}
    command = "python finetuning.py --dataset 'my tickets.csv'"
    begin_folds(folder, 5, command=command, constants=asked)
    for method, right in (("tfidf", 24), ("probe", 30), ("probe+tfidf", 38)):
        guess = np.where(np.arange(TESTS) < right, truth, 1 - truth)
        add_folds(folder, method, 5, truth, (1 + np.arange(TESTS) % 7)[:, None] * np.eye(2)[guess])
    report.write(Results.read(folder, TEXTS))
    return folder


def test_the_answer_comes_first_with_what_it_rests_on(answered):
    text = (answered / "report.md").read_text(encoding="utf-8")
    first, _, rest = text.partition("<details>")
    inside = section(first, "Answer")
    assert "\n**Use probe + TF-IDF: " in inside and "## Results" not in text
    order = ["| method | accuracy, %", "(accuracies.png)"]
    order += ["### How probe + TF-IDF errs", "| label | precision, %", "(confusion_matrix.png)"]
    order += ["Accuracy on the rest, if a person checks", "| row | label |"]
    order += ["    python finetuning.py --dataset 'my tickets.csv' --final probe+tfidf"]
    places = [inside.index(part) for part in order]
    assert places == sorted(places)
    assert "Always saying “bad” has 50.0 % accuracy." in inside
    assert list(rows_of(inside))[:5] == ["method", "---", "probe + TF-IDF", "probe", "TF-IDF"]
    assert "40 texts, each tested in one of 5 folds by models" in text
    assert "on the others; tested: bad 20, good 20; up to" in text
    whole = Results.read(answered)
    data = {"data": whole.experiment["data"] | {"labels_redrawn": True}}
    sampled = replace(whole, experiment=whole.experiment | data)
    assert "models that are trained on 14 of the others" in report.page(sampled, {})
    assert "14 labelled and 40 test texts" in plots.subtitle(sampled)
    cut = {"constants": whole.experiment["constants"] | {"test_examples": 8}}
    said = report.page(replace(whole, experiment=whole.experiment | cut), {})
    assert "40 texts, at most 8 of each of 5 folds, are tested by models" in said
    assert "trained on the texts of other folds; tested: bad 20" in said
    assert "<summary>All results</summary>" in rest
    said = tables.terminal(whole)
    assert "\nUse probe + TF-IDF: " in said and "seed" not in said
    assert pd.read_csv(answered / "answer.csv")["method"].tolist()[0] == "probe+tfidf"
    assert pd.read_csv(answered / "misclassified.csv")["text"].tolist() == ["text 39", "text 38"]


def test_the_line_of_always_saying_the_largest_label_is_drawn_where_it_is_near(answered):
    results = Results.read(answered)
    figure, note, _ = comparisons.accuracies(results)
    (line,) = [line for line in figure.axes[0].lines if line.get_linestyle() == ":"]
    assert set(line.get_xdata()) == {50} and "dotted" in note
    ticks = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert ticks == ["probe + TF-IDF", "probe", "TF-IDF"]
    vars(results)["intervals"] = results.intervals.assign(accuracy_low=0.99, accuracy_high=1.0)
    figure, note, _ = comparisons.accuracies(results)
    assert "far to the left: always saying “bad” (50 %)" in note


def test_the_scores_of_the_answer_are_drawn_by_its_metric(answered):
    results = Results.read(answered)
    results.experiment["constants"]["metric"] = "macro_f1"
    axes = comparisons.accuracies(results)[0].axes[0]
    shown = [text.get_text() for text in axes.texts]
    assert shown == [f"{100 * f1:.1f}" for f1 in sorted(results.intervals["macro_f1"])[::-1]]
    assert axes.get_xlabel() == "test macro-F1 (%)"


def test_a_matrix_of_confusions_counts_every_text_and_is_left_out_of_too_many_labels(answered):
    results = Results.read(answered)
    axes = comparisons.confusion_matrix(results)[0].axes[0]
    assert sum(int(text.get_text()) for text in axes.texts) == TESTS
    many = results.experiment | {"label_names": [str(label) for label in range(99)]}
    assert comparisons.confusion_matrix(replace(results, experiment=many)) is None


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
    assert ("meta", {"name": "viewport", "content": "width=device-width"}) in read.tags
    links = {"src", "href", "action", "data", "poster", "srcset"}
    outside = [a[name] for _, a in read.tags for name in links & a.keys()]
    assert all(link.startswith("data:") for link in outside)
    assert [tag for tag, _ in read.tags].count("table") == 7
    assert "title" in dict(read.tags) and "details" in dict(read.tags)
    assert "How it was made" in read.text and "LoRA − head-only 52.5" in read.text


MARKUP = "<script>alert(1)</script>"
HOSTILE = f"{MARKUP}\n\n![x](secret.png)\n\n    code\n# big $a_b$ | `*[l](javascript:1)"


def hostile(value):
    """The same JSON with markup after every text, and in every name of a dictionary."""
    if isinstance(value, dict):
        return {name: hostile(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [hostile(each) for each in value]
    return f"{value}{HOSTILE}" if isinstance(value, str) else value


@pytest.fixture(params=[False, True])
def received(tmp_path, request):
    """An experiment's folder of somebody else, with markup in every value that may be text."""
    methods, labels = ["head", f"mine{HOSTILE}"], [f"bad{HOSTILE}", f"good{HOSTILE}"]
    about = hostile({k: v for k, v in EXPERIMENT.items() if k not in ("label_names", "constants")})
    constants = hostile(EXPERIMENT["constants"]) | {"methods": methods, "metric": "accuracy"}
    constants |= {"contrasts": [" - ".join(methods)], "dataset": HOSTILE}
    extra = {"notes": [HOSTILE], "warnings": [HOSTILE], "groups": {f"test{HOSTILE}": 2}}
    extra |= {"is_own": request.param}
    about |= {"constants": constants, "libraries": {f"torch{HOSTILE}": HOSTILE}}
    begin(tmp_path, **about | {"label_names": labels, "data": about["data"] | extra})
    names = ["row", "label", *(f"logit_{label}" for label in labels), "group"]
    for number, method in enumerate([*methods, "full"]):
        name = ("head", "lora", "adapter")[number]
        add(tmp_path, name, 0, right=30 + number)
        run = tmp_path / f"{name}-seed0"
        record = json.loads((run / "run.json").read_text())
        record |= {"method": method, "name": method, "device": HOSTILE, "started": HOSTILE}
        record |= {"hyperparameters": {f"rank{HOSTILE}": HOSTILE}, "status": "finished"}
        record |= {"status": f"failed: {HOSTILE}"} if method == "full" else {}
        record |= {"depends_on": {"EPOCHS": HOSTILE, f"X{HOSTILE}".upper(): HOSTILE}}
        (run / "run.json").write_text(json.dumps(record))
        table = pd.read_csv(run / "predictions.csv").assign(group=np.arange(TESTS) // 2)
        table.set_axis(names, axis=1).to_csv(run / "predictions.csv", index=False)
    (tmp_path / "secret.png").write_bytes(b"a secret")
    return tmp_path


@pytest.mark.usefixtures("without_figures")
def test_markup_in_any_value_is_text_on_both_pages(received):
    report.write(Results.read(received, [f"{i} {HOSTILE}" for i in range(TESTS)]))
    shown = (received / "report.html").read_text(encoding="utf-8")
    read = Reader(shown)
    tags = [tag for tag, _ in read.tags]
    ours = {"html", "meta", "title", "style", "h1", "h2", "h3", "p", "strong", "pre", "code"}
    ours |= {"table", "thead", "tbody", "tr", "th", "td", "details", "summary", "ul", "li", "span"}
    assert set(tags) <= ours
    assert "YSBzZWNyZXQ" not in shown and tags.count("h1") == 1
    assert read.text.count(MARKUP) > 40
    text = (received / "report.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if MARKUP in line]
    assert {line[:38] for line in lines} == {"    python finetuning.py --experiment "}
    assert tags.count("pre") == len(lines) == 1 + ("## Answer" in text)


def test_an_image_that_this_page_has_not_drawn_is_not_read(tmp_path):
    (tmp_path / "a.png").write_bytes(b"ours"), (tmp_path / "b.png").write_bytes(b"a secret")
    text = "# Title\n\n![ours](a.png)\n\n![theirs](b.png) ![passwords](/etc/passwd)\n"
    read = Reader(html.page(text, {"a.png": tmp_path / "a.png"}))
    (image,) = (attributes for tag, attributes in read.tags if tag == "img")
    assert image["src"].endswith(base64.b64encode(b"ours").decode()) and image["alt"] == "ours"
    assert "theirs passwords" in read.text


@pytest.mark.usefixtures("without_figures")
def test_no_cell_of_misclassified_csv_is_a_formula(folder):
    texts = [f'=HYPERLINK("{i}")' for i in range(TESTS)]
    results = Results.read(folder, texts)
    report.write(results)
    cells = pd.read_csv(folder / "misclassified.csv")["text"]
    assert cells.tolist() == [f'\'=HYPERLINK("{i}")' for i in (37, 38, 39)]
    assert report.page(Results.read(folder), {}) == report.page(results, {})
    assert "| 37 | good | bad | 88.1 | '=HYPERLINK" in page(folder)
    assert (folder / "misclassified.csv").read_bytes().startswith(b"row,")
    report.write(Results.read(folder, ["schön"] * TESTS))  # a spreadsheet needs a mark to read it
    assert (folder / "misclassified.csv").read_bytes().startswith(codecs.BOM_UTF8 + b"row,")
    assert errors.misclassified(Results.read(folder))["text"].tolist() == ["schön"] * 3


def test_any_text_is_one_line_that_shows_as_it_is():
    given = "a|b <br /> **c**\r\n_d_ `e` [f](g) ~~h~~ \\ $i$ \x07&amp; 🙂\u2028j"
    shown = r"a\|b &lt;br /&gt; \*\*c\*\* \_d\_ \`e\` \[f\](g) \~\~h\~\~ \\ "
    assert markdown.escape(given) == shown + "<span>$</span>i<span>$</span> &amp;amp; 🙂 j"


def test_the_page_names_the_code_the_command_and_what_the_runs_had(folder):
    begin(folder, constants={"epochs": 99, "lora_rank": 99})
    made = section(page(folder), "How it was made")  # the last start had others
    assert "- code" not in made and f"    {EXPERIMENT['command']}\n" in made
    assert "| EPOCHS | 2 |" in made and '| LoRA | {"rank": 4} |' in made and "99" not in made
    add(folder, "tfidf", 0, record={"depends_on": {"MODEL": "tiny", "EPOCHS": 3}, "code": "89ef"})
    add(folder, "probe", 0, record={"code": "0123abcd+"})
    made = section(page(folder), "How it was made")
    assert re.search("^- code: (89ef, 0123abcd\\+|0123abcd\\+, 89ef)$", made, re.M)
    assert "EPOCHS" not in made and '| MODEL | "tiny" |' in made  # what all share


DAMAGES = {"folder": "missing is no folder", "types": "cannot be shown", "page": "cannot be shown"}
DAMAGES["arguments"] = "give one folder"


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.usefixtures("without_figures")
def test_what_cannot_be_reported_is_one_line_and_exit_status_2(folder, capsys, damage):
    arguments = {"folder": [str(folder / "missing")], "arguments": []}.get(damage, [str(folder)])
    if damage == "types":
        begin(folder, constants={"contrasts": 3})
    elif damage == "page":
        (folder / "report.md").mkdir()  # where the page is to be written
    assert report.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and DAMAGES[damage] in error


def test_a_figure_that_cannot_be_drawn_costs_a_line_and_not_the_page(folder, monkeypatch, capsys):
    figures = [plots.FIGURES[0]._replace(draw=raising(ValueError("a bug")))]
    monkeypatch.setattr(report, "draw", lambda results: plots.draw(results, figures))
    assert report.main([str(folder)]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert "accuracies.png was not drawn (ValueError: a bug)" in line
    assert "accuracies.png" not in (folder / "report.md").read_text(encoding="utf-8")
