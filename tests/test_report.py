"""The page says what the files say: verdicts, doubts, mistakes, and other people's text as text."""

import json
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from made_up import EXPERIMENT, TESTS, add, add_depths, add_tuning, begin

from boundary import BadInput
from evaluation import html, markdown, plots, report, tables
from evaluation.results import Results
from evaluation.style import plt

TEXTS = [f"review {i}" for i in range(TESTS)]
RESULTS = Path(__file__).parents[1] / "docs" / "results"
ACROSS = "".join(path.read_text(encoding="utf-8") for path in RESULTS.glob("*.md"))
COMMITTED = sorted(  # those of a page across experiments are computed in its test, in less time
    path.parent.name
    for path in RESULTS.glob("*/report.md")
    if f"({path.parent.name}/report.md)" not in ACROSS
)


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
    return text.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_the_page_from_the_files_alone_is_the_one_written_at_once(folder):
    add(folder, "bitfit", 0, status="failed: the loss is nan at step 3")
    written = report.write(Results.read(folder, TEXTS))
    at_once = {path: path.read_bytes() for path in written}
    for path in written:
        if path.suffix in (".png", ".md", ".html"):
            path.unlink()
    assert report.main([str(folder)]) == 0
    assert {path: path.read_bytes() for path in written} == at_once
    assert not list(folder.rglob("*.part"))


@pytest.mark.parametrize("name", COMMITTED)
def test_the_committed_page_and_tables_are_what_the_code_writes(name, tmp_path, monkeypatch):
    """All but the figures, which the drawing libraries' versions change."""
    folder = shutil.copytree(RESULTS / name, tmp_path / name)
    monkeypatch.setattr(plots, "save", lambda path, drawn, *_: plt.close(drawn[0]) or path)
    committed = {path.name for path in (RESULTS / name).iterdir()} - {"report.html"}
    for path in report.write(Results.read(folder)):
        if path.name != "report.html":  # git ignores it
            assert path.name in committed
            if path.suffix != ".png":
                assert path.read_bytes() == (RESULTS / name / path.name).read_bytes(), path.name


def test_every_figure_is_linked_once_and_every_link_leads_to_one(folder):
    add(folder, "lora(targets=('q', 'v'))", 0)
    written = report.write(Results.read(folder))
    figures = {path.name for path in written if path.suffix == ".png"}
    text = (folder / "report.md").read_text(encoding="utf-8")
    links = [part.split(")")[0] for part in text.split("](") if ".png)" in part]
    assert sorted(link.replace("%3D", "=").replace("%2B", "+") for link in links) == sorted(figures)


def test_a_sentence_names_few_of_many_methods_and_counts_the_others(tmp_path):
    begin(tmp_path)
    for rank in (1, 2, 4, 8, 16, 32):
        for seed in (0, 1):
            add(tmp_path, f"lora(rank={rank})", seed, right=30)
    found = section(page(tmp_path), "Findings")
    assert "difference from LoRA (rank=16), LoRA (rank=2), LoRA (rank=32) and 2 more." in found
    assert found.count("LoRA (rank=1) − LoRA (rank=") == 5  # but all are compared


def test_verdicts_come_from_the_paired_tests(folder):
    found = section(page(folder), "Findings")
    different, alike = found.split("\n- No significant difference")
    assert "**Highest mean test accuracy: LoRA, 95.0 %** (95 % interval 88.8 to 100.0)." in found
    assert "There is **no** significant difference from adapters." in found
    assert "LoRA − head-only: 52.5 points" in different
    assert "adapters − head-only: 50.0 points" in different
    assert "LoRA − adapters: 2.5 points" in alike and "head-only" not in alike.split("\n- ")[0]
    assert "Each method was trained with 3 seeds." in found and "not varied" not in found
    table = section(page(folder), "Comparisons").splitlines()
    verdicts = {row.split(" | ")[0]: row.split(" | ")[-1] for row in table if " − " in row}
    assert verdicts["| LoRA − head-only"] == "significant |"
    assert verdicts["| LoRA − adapters"] == "no significant difference |"


def test_one_seed_claims_nothing_of_other_seeds(tmp_path):
    begin(tmp_path)
    add(tmp_path, "head", 0, right=16), add(tmp_path, "lora", 0, right=38)
    text = page(tmp_path)
    assert "**Seeds were not varied**: each method was trained once." in text
    assert "t over" not in text and "mean test accuracy" not in text
    assert "LoRA − head-only: 55.0 points" in text and "exact McNemar" in text
    assert "| significant (one seed each) |" in text
    add(tmp_path, "lora", 1, right=37)
    assert "**Seeds were not varied for head-only**" in page(tmp_path)
    assert "| significant (one seed of head-only) |" in page(tmp_path)


def test_one_method_is_compared_with_nothing(tmp_path):
    begin(tmp_path)
    add(tmp_path, "head", 0)
    text = page(tmp_path)
    assert "There is one method, so nothing is compared." in text
    assert "## Comparisons" not in text and "ighest" not in text and "Fastest" not in text


def test_a_baseline_has_a_dash_where_it_has_no_value(folder):
    add(folder, "tfidf", 0, right=20)
    text = page(folder)
    row = next(x for x in section(text, "Results").splitlines() if "TF-IDF" in x)
    assert row == "| TF-IDF | 1 | 50.0 | 35.2 to 64.8 | — | 90.0 | 0.500 | — | — | 3 | 100 |"
    assert "Baseline, without a transformer, on whole reviews: TF-IDF." in text
    assert "TF-IDF" not in section(text, "Convergence")
    assert "Fewest trained parameters: head-only, 14;" in text


def test_single_runs_have_wilsons_interval(folder):
    """38 of 40: the centre (x + z²/2) / (n + z²), by hand."""
    z, n, p = 1.959963984540054, 40, 38 / 40
    centre, half = p + z**2 / 2 / n, z * (p * (1 - p) / n + z**2 / 4 / n**2) ** 0.5
    low, high = ((centre + sign * half) / (1 + z**2 / n) for sign in (-1, 1))
    assert f"| LoRA | 1 | 95.0 | {100 * low:.1f} to {100 * high:.1f} |" in page(folder)


def converge(folder, method, seed, accuracies):
    """Validation accuracies at every tenth step."""
    path = folder / f"{method}-seed{seed}" / "history.csv"
    steps = [10 * (i + 1) for i in range(len(accuracies))]
    table = pd.DataFrame({"step": steps, "epoch": [s / 20 for s in steps], "seconds": steps})
    table = table.assign(train_loss=0.5, train_accuracy=0.5, validation_loss=0.5)
    table.assign(validation_accuracy=accuracies).to_csv(path, index=False)


def test_the_page_says_which_method_converges_fastest_with_an_interval(tmp_path):
    begin(tmp_path)
    slow = {0: [0.5] * 14 + [0.7], 1: [0.5] * 15 + [0.7], 2: [0.5] * 16 + [0.7]}  # 150, 160, 170
    for seed, accuracies in slow.items():
        add(tmp_path, "head", seed), add(tmp_path, "lora", seed)
        converge(tmp_path, "head", seed, accuracies)
        converge(tmp_path, "lora", seed, [0.6, 0.75 + 0.1 * seed])
    text = page(tmp_path)
    assert (
        "Fastest to a validation accuracy of 70.0 %, the lowest of the runs' bests: LoRA, 20 steps;"
        " slowest: head-only, 160. The difference is significant: 140 steps, 95 % interval 105 to "
        "175 (Welch's t over seeds, wider by the 10 steps between evaluations; of these two alone)."
    ) in text  # 4.303 * 10 / sqrt(3) = 24.8, and 10
    row = next(x for x in section(text, "Convergence").splitlines() if "head-only" in x)
    assert row.split(" | ")[7:] == ["8 (6.76 to 9.24)", "160 (135 to 185)", "160 (135 to 185) |"]
    for seed in (0, 1, 2):
        converge(tmp_path, "head", seed, [0.6, 0.7])
    assert "All methods reached a validation accuracy of 70.0 %" in page(tmp_path)


def test_convergence_of_single_seeds_has_no_interval(tmp_path):
    begin(tmp_path)
    add(tmp_path, "head", 0), add(tmp_path, "lora", 0)
    converge(tmp_path, "head", 0, [0.5, 0.6, 0.7]), converge(tmp_path, "lora", 0, [0.8, 0.8])
    assert (
        "LoRA, 10 steps; slowest: head-only, 30. Without several seeds of both, this difference "
        "has no interval."
    ) in page(tmp_path)


def test_failed_runs_are_listed(folder):
    add(folder, "bitfit", 0, status="failed: the loss is nan at step 3")
    text = page(folder)
    assert "**1 of 10 runs failed**" in section(text, "Findings")
    assert "| BitFit | 0 | failed: the loss is nan at step 3 |" in section(text, "Failed runs")


def test_runs_on_a_busy_machine_are_named_and_their_seconds_not_compared(folder):
    assert "other work" not in page(folder) and "shortest training" in page(folder)
    for run, load in (("lora-seed0", 0.9), ("lora-seed2", 1.5), ("head-seed0", 0.4)):
        path = folder / run / "run.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"other_load": load}))
    named = (
        "The machine did other work during LoRA (seed 0, 2): their seconds and memory say little."
    )
    assert named in section(page(folder), "Results")
    assert "shortest training" not in page(folder)
    for path in folder.glob("*/run.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"other_load": 2.0}))
    assert "other work during every run: their seconds" in page(folder)


def test_costs_that_one_method_alone_has_are_left_out_and_the_rest_is_a_sentence(tmp_path):
    begin(tmp_path)
    add(tmp_path, "tfidf", 0), add(tmp_path, "lora", 0)
    text = section(page(tmp_path), "Findings")
    assert "- Shortest training: " in text and "trained parameters" not in text


def test_seconds_of_several_machines_are_not_compared(folder):
    text = page(folder)
    assert "Machine: cpu.\n" in text and "shortest training" in section(text, "Findings")
    path = folder / "lora-seed0" / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"device": "a GPU"}))
    text = page(folder)
    said = "Machines: cpu; a GPU. Seconds and memory on one and another do not compare.\n"
    assert said in text
    assert "Fewest trained parameters: head-only" in section(text, "Findings")
    assert "shortest training" not in text and "peak memory" not in section(text, "Findings")


def test_each_depth_says_what_learns_and_what_the_others_took(tmp_path):
    begin(tmp_path)
    add_depths(tmp_path)
    first = page(tmp_path).split("\n## ")[0]
    assert (
        "- The last 4 of 6 blocks learn (LoRA (blocks=4), adapters (blocks=4)); the others ran once"
        " for each review: 5 s, shared by 6 runs."
    ) in first.replace(
        "adapters (blocks=4), LoRA (blocks=4)", "LoRA (blocks=4), adapters (blocks=4)"
    )
    assert "- The last of 6 blocks learns (" in first and "blocks=6); the" not in first
    assert (
        "- None of the 6 blocks learns (head-only); they ran once for each review: 15 s, shared by "
        "3 runs."
    ) in first


def test_where_only_the_frozen_blocks_are_known_nothing_is_said_of_the_others(tmp_path):
    begin(tmp_path)
    add(tmp_path, "head", 0, record={"frozen_blocks": 6, "shared_seconds": 2.5})
    assert (
        "- In the first 6 blocks nothing learns (head-only); these ran once for each review: 2.5 s,"
        " shared by 1 run."
    ) in page(tmp_path)
    add(tmp_path, "head", 1, record={"frozen_blocks": 6, "shared_seconds": 3.5})
    assert "once for each review: 2.5 to 3.5 s, shared by 2 runs." in page(tmp_path)


def test_frozen_blocks_whose_states_were_not_kept_share_nothing(tmp_path):
    begin(tmp_path)
    add(tmp_path, "head", 0, record={"frozen_blocks": 6, "shared_seconds": 0.0})
    assert "In the first 6 blocks nothing learns (head-only); these ran anew" in page(tmp_path)
    assert "shared" not in page(tmp_path)


def test_the_shared_pass_stands_beside_training_and_is_in_the_shortest_total(tmp_path):
    """Head-only trains for 1 s after a pass of 15; LoRA in the last block for 5 after 12.5."""
    begin(tmp_path)
    add_depths(tmp_path)
    for method, seconds, shared in (("tfidf", 17.0, None), ("full", 17.2, 0.0)):
        record = {"training_seconds": seconds, "shared_seconds": shared, "frozen_blocks": 0}
        add(tmp_path, method, 0, record=record)
    results = Results.read(tmp_path)
    rows = section(report.page(results, {}), "Results").split("\n\n")[0].splitlines()
    cells = {row.split(" | ")[0].strip("| "): row.split(" | ")[9:11] for row in rows}
    assert cells["method"] == ["training, s", "shared pass, s"]
    assert cells["head-only"] == ["1", "15"] and cells["LoRA (blocks=1)"] == ["5", "12.5"]
    assert cells["full fine-tuning"] == ["17.2", "0"] and cells["TF-IDF"] == ["17", "—"]
    text = report.page(results, {})
    assert "shortest training, with the shared pass: head-only, 16 s" in text
    assert "once for all runs with the same frozen blocks, and in no run's training" in text
    assert "seconds are of training alone, without the shared pass. Means" in text
    assert "Training seconds are without the shared pass." in section(text, "Single runs")
    line = next(x for x in tables.terminal(results).splitlines() if "LoRA (blocks=1)" in x)
    assert line.split()[-3:] == ["5", "12.5", "2"]


def test_without_a_shared_pass_nothing_is_said_of_one(folder):
    report.write(Results.read(folder))
    assert "shared" not in (folder / "report.md").read_text(encoding="utf-8")
    assert "shared" not in tables.terminal(Results.read(folder))


def test_the_terminals_table_has_a_row_for_each_finished_run(folder):
    add(folder, "tfidf", 0), add(folder, "lora(rank=4)", 0)
    lines = tables.terminal(Results.read(folder)).splitlines()
    assert len(lines) == 12 and len({len(line) for line in lines}) == 1
    assert any(line.split()[:4] == ["LoRA", "(rank=4)", "0", "75.00"] for line in lines)


def test_the_most_confident_mistakes_are_on_the_page(folder):
    texts = list(TEXTS)
    texts[39] = "<script>alert(1)</script> | *loud*\n\n# no heading"
    text = page(folder, texts)
    assert "1 of 40 test reviews (2.5 %) are misclassified by every method." in text
    shown = r"&lt;script&gt;alert(1)&lt;/script&gt; \| \*loud\* # no heading"
    row = f"| 39 | good | bad | 88.1 | {shown} |"
    assert row in section(text, "Reviews misclassified by every method")
    add(folder, "tfidf", 0, right=40)
    assert "There are none." in section(
        page(folder, texts), "Reviews misclassified by every method"
    )


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


def test_the_html_page_is_one_file_with_its_figures_inside(folder):
    written = report.write(Results.read(folder, TEXTS))
    read = Reader((folder / "report.html").read_text(encoding="utf-8"))
    images = [attributes for tag, attributes in read.tags if tag == "img"]
    assert len(images) == sum(path.suffix == ".png" for path in written)
    assert all(image["src"].startswith("data:image/png;base64,iVBOR") for image in images)
    assert all(image["alt"].endswith("?") for image in images)
    links = {"src", "href", "action", "data", "poster", "srcset"}
    outside = [a[name] for _, a in read.tags for name in links & a.keys()]
    assert all(link.startswith("data:") for link in outside)
    assert [tag for tag, _ in read.tags].count("table") == 6
    assert "title" in dict(read.tags) and "details" in dict(read.tags)
    assert "Every constant" in read.text and "LoRA − head-only: 52.5 points" in read.text


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
    text = page(tmp_path, [f"{i} {bad} <iframe> </table> `{bad}` &lt;" for i in range(TESTS)])
    read = Reader(html.page(text, tmp_path))
    tags = {tag for tag, _ in read.tags}
    assert not tags & {"script", "img", "iframe", "b", "a"}
    assert read.text.count(bad) >= 2 * 10 + 5  # the reviews shown, and the rest
    assert f"39 {bad} <iframe> </table> `{bad}` &lt;" in read.text
    assert "[model](javascript:alert(1))" in read.text


# ------------------------------------------------------------------ numbers and commands


def test_any_text_is_one_line_that_shows_as_it_is():
    given = "a|b <br /> **c**\r\n_d_ `e` [f](g) ~~h~~ \\ $i$ \x07&amp; 🙂\u2028j"
    shown = (
        r"a\|b &lt;br /&gt; \*\*c\*\* \_d\_ \`e\` \[f\](g) \~\~h\~\~ \\ "
        "<span>$</span>i<span>$</span> &amp;amp; 🙂 j"
    )
    assert markdown.escape(given) == shown
    assert markdown.excerpt("one two three", 9) == "one two …"
    assert markdown.excerpt("x" * 50, 9) == "x" * 9 + " …"


@pytest.mark.parametrize(
    ("p", "text"), [(0.0009, "< 0.001"), (0.00123, "0.0012"), (0.0499, "0.050"), (1, "1.0")]
)
def test_p_has_two_digits(p, text):
    assert markdown.p_value(p) == text


def test_numbers_have_a_real_minus_and_no_negative_zero():
    assert markdown.interval(-0.0123, 0.0456) == "−1.2 to 4.6"
    assert markdown.percent(-0.0001) == "0.0" and markdown.percent(float("nan")) == "—"
    assert [markdown.size(x) for x in (0.6283, 11.94, 1201.2)] == ["0.628", "11.9", "1,201"]


def test_the_page_names_the_command_and_every_constant(folder):
    section = page(folder).split("## How to reproduce it")[1]
    assert f"    {EXPERIMENT['command']}\n" in section
    for name, value in EXPERIMENT["constants"].items():
        assert f"| {name.upper()} | {markdown.escape(json.dumps(value))} |" in section


def test_a_tunings_folder_gets_its_figure(tmp_path, capsys):
    add_tuning(tmp_path)
    assert report.main([str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'tuning.png'}\n"


@pytest.mark.parametrize(
    "damage", ["nothing", "folder", "predictions", "json", "csv", "page", "arguments"]
)
def test_what_cannot_be_reported_is_one_line_and_exit_status_2(folder, capsys, damage):
    arguments, message = [str(folder)], "cannot be read"
    if damage == "nothing":
        for path in folder.glob("*/run.json"):
            path.unlink()
        message = "has no finished runs"
    elif damage == "folder":
        arguments, message = [str(folder / "missing")], "missing is no folder"
    elif damage == "predictions":
        (folder / "lora-seed1" / "predictions.csv").unlink()
        message = "predictions.csv is missing"
    elif damage == "json":
        (folder / "experiment.json").write_text("{")
    elif damage == "csv":
        (folder / "lora-seed0" / "history.csv").write_bytes(b"\xff\xfe\x00")
    elif damage == "page":
        (folder / "report.md.part").mkdir()  # where the page is to be written
        message = "cannot be written to"
    else:
        arguments, message = [], "give one folder"
    assert report.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and message in error


def test_a_folder_may_be_given_from_the_users_own(tmp_path, capsys, monkeypatch):
    add_tuning(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    assert report.main([f"~/{tmp_path.name}"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'tuning.png'}\n"


def test_traceback_shows_where_bad_input_was_found(folder, capsys):
    (folder / "experiment.json").write_text("{")
    assert report.main(["--traceback", str(folder)]) == 2
    error = capsys.readouterr().err
    assert "Traceback" in error and error.splitlines()[-1].startswith("error: ")


def test_a_mistake_in_drawing_is_no_bad_input(folder, monkeypatch):
    def broken(_):
        raise ValueError("a bug")

    monkeypatch.setattr(report, "draw", broken)
    with pytest.raises(ValueError, match="a bug") as caught:
        report.main([str(folder)])
    assert not isinstance(caught.value, BadInput)


def test_the_command_without_a_folder_says_what_to_give():
    command = [sys.executable, "-m", "evaluation.report"]
    ended = subprocess.run(command, cwd=RESULTS.parents[1], capture_output=True, text=True)
    assert ended.returncode == 2 and ended.stdout == ""
    assert ended.stderr == "error: give one folder of results, such as results/quick\n"
