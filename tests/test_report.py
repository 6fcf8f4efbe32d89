"""The page says what the files say: verdicts, doubts, mistakes, and other people's text as text."""

import json
import shlex

import numpy as np
import pandas as pd
import pytest
from made_up import EXPERIMENT, TESTS, add
from scipy.special import softmax

import finetuning
import settings
from evaluation import markdown, plots, records, report, reproduce

TEXTS = [f"review {i}" for i in range(TESTS)]


@pytest.fixture
def folder(tmp_path):
    records.open_experiment(tmp_path, EXPERIMENT)
    for seed in (0, 1, 2):
        add(tmp_path, "head", seed, right=16 + seed), add(tmp_path, "lora", seed, right=37 + seed)
        add(tmp_path, "adapter", seed, right=36 + seed)
    return tmp_path


def page(folder):
    return report.write_report(folder).read_text(encoding="utf-8")


def section(text, title):
    return text.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_the_page_from_the_files_alone_is_the_one_written_at_once(folder):
    add(folder, "bitfit", 0, status="failed: the loss is nan at step 3")
    report.misjudged(folder, TEXTS, ["bad", "good"])
    plots.make_plots(folder)
    at_once = page(folder)
    for written in (*folder.glob("*.png"), folder / "report.md"):
        written.unlink()
    assert report.main([str(folder)]) == 0
    assert page(folder) == at_once
    assert not list(folder.rglob("*.part"))


def test_every_figure_is_linked_once_and_every_link_leads_to_one(folder):
    figures = {path.name for path in plots.make_plots(folder)}
    links = [part.split(")")[0] for part in page(folder).split("](") if ".png)" in part]
    assert sorted(links) == sorted(figures)


def test_verdicts_come_from_the_paired_tests(folder):
    found = section(page(folder), "What was found")
    apart, level = found.split("Not told apart")
    assert "**Highest mean test accuracy: LoRA, 95.0 %** (95 % interval 88.8 to 100.0)." in found
    assert "It is **not** told apart from adapters." in found
    assert "LoRA over head-only by 52.5 points" in apart
    assert "adapters over head-only by 50.0 points" in apart
    assert "LoRA − adapters: 2.5 points" in level and "head-only" not in level.split("\n- ")[0]
    assert "Each method was trained with 3 seeds." in found and "not varied" not in found
    table = section(page(folder), "Comparisons")
    assert "LoRA beats head-only by 52.5 points" in table
    assert "LoRA and adapters cannot be told apart on this test set" in table


def test_one_seed_claims_nothing_of_other_seeds(tmp_path):
    records.open_experiment(tmp_path, EXPERIMENT)
    add(tmp_path, "head", 0, right=16), add(tmp_path, "lora", 0, right=38)
    text = page(tmp_path)
    assert "**Seeds were not varied**: each method was trained once." in text
    assert "t over" not in text and "mean test accuracy" not in text
    assert "LoRA over head-only by 55.0 points" in text and "exact McNemar" in text
    add(tmp_path, "lora", 1, right=37)
    assert "**Seeds were not varied for head-only**" in page(tmp_path)


def test_one_method_is_compared_with_nothing(tmp_path):
    records.open_experiment(tmp_path, EXPERIMENT)
    add(tmp_path, "head", 0)
    text = page(tmp_path)
    assert "There is one method, so nothing is compared." in text
    assert "## Comparisons" not in text and "ighest" not in text


def test_the_baseline_has_a_dash_where_it_has_no_value(folder):
    add(folder, "tfidf", 0, right=20)
    row = next(x for x in section(page(folder), "Results").splitlines() if "TF-IDF" in x)
    assert row == "| TF-IDF | 1 | 50.0 | 35.2 to 64.8 | — | 90.0 | 0.500 | 15 | — | — | — |"


def test_single_runs_have_wilsons_interval(folder):
    """38 of 40: the centre (x + z²/2) / (n + z²), by hand."""
    z, n, p = 1.959963984540054, 40, 38 / 40
    centre, half = p + z**2 / 2 / n, z * (p * (1 - p) / n + z**2 / 4 / n**2) ** 0.5
    low, high = ((centre + sign * half) / (1 + z**2 / n) for sign in (-1, 1))
    assert f"| LoRA | 1 | 95.0 | {100 * low:.1f} to {100 * high:.1f} |" in page(folder)


def test_convergence_counts_steps_where_an_older_history_does_not(folder):
    with_steps = section(page(folder), "Learning")
    assert "| LoRA | 0 | 49.5 | 1 | 3 | 0.333 | 50.0 | 1 | 3 | 0.333 |" in with_steps
    history = records.read_csv(folder / "history.csv").drop(columns="steps")
    records.write(folder / "history.csv", history.to_csv(index=False))
    experiment = json.loads((folder / "experiment.json").read_text())
    experiment["constants"]["batch_size"] = 4  # 10 reviews: 3 steps an epoch
    records.write(folder / "experiment.json", json.dumps(experiment))
    assert section(page(folder), "Learning") == with_steps


def test_failed_runs_are_listed(folder):
    add(folder, "bitfit", 0, status="failed: the loss is nan at step 3")
    text = page(folder)
    assert "**1 of 10 runs failed**" in section(text, "What was found")
    assert "| BitFit | 0 | failed: the loss is nan at step 3 |" in section(text, "Failed runs")


def predict(folder, method, seed, labels, logits):
    row = {"method": method, "seed": seed, "status": "finished"}
    row |= dict.fromkeys(records.MEASURED, 0.5)
    columns = [f"logit_{name}" for name in ("a", "b", "None")]
    table = pd.DataFrame(np.array(logits, float), columns=columns)
    records.add_run(folder, row, predictions=table.assign(label=labels))


def test_misjudged_reviews_are_those_that_every_seed_of_every_method_gets_wrong(tmp_path):
    """Review 1 is right once and 3 twice; of review 4, the mean of all would say the truth."""
    records.open_experiment(tmp_path, EXPERIMENT)
    doubt, other = [2, 2.1, 0], [2, 0, 2.1]
    first = [[0, 1, 0], [2, 0, 0], [9, 0, 0], [1, 0, 0], doubt]
    second = [[0, 0, 3], [0, 2, 0], [9, 0, 0], [0, 1, 0], other]
    third = [[0, 2, 0], [2, 0, 0], [9, 0, 0], [1, 0, 0], doubt]
    labels = [0, 1, 2, 0, 0]
    predict(tmp_path, "head", 0, labels, first)
    predict(tmp_path, "head", 1, labels, second)
    predict(tmp_path, "tfidf", 0, labels, third)
    texts = ["zero\r\n|", "one", 'two, "2" 🙂', "three", "four"]
    found = report.misjudged(tmp_path, texts, ["a", "b", "None"])
    assert found["review"].tolist() == [2, 0, 4]
    assert found["label"].tolist() == ["None", "a", "a"]
    assert found["predicted"].tolist() == ["a", "b", "b"]

    def of_b(*runs):  # a method's seeds first, then the methods
        one, two, three = (softmax(logits)[1] for logits in runs)
        return ((one + two) / 2 + three) / 2

    expected = [softmax([9, 0, 0])[0], of_b(first[0], second[0], third[0])]
    expected.append(of_b(doubt, other, doubt))
    np.testing.assert_allclose(found["confidence"], expected, rtol=1e-12)
    columns = ("label", "predicted", "text"), ("review", "confidence")
    read = records.read_csv(tmp_path / "misjudged.csv", *columns)
    assert read["label"].tolist() == ["None", "a", "a"]
    assert read["text"].tolist() == [texts[2], texts[0], texts[4]]


def test_misjudged_refuses_texts_of_another_number(folder):
    with pytest.raises(ValueError, match="40 complete rows for 39 test reviews"):
        report.misjudged(folder, TEXTS[:-1], ["bad", "good"])


def test_the_most_confident_mistakes_are_on_the_page(folder):
    texts = list(TEXTS)
    texts[39] = "<script>alert(1)</script> | *loud*\n\n# no heading"
    report.misjudged(folder, texts, ["bad", "good"])
    text = page(folder)
    assert "1 of 40 test reviews (2.5 %) fool every method." in text
    shown = r"&lt;script&gt;alert(1)&lt;/script&gt; \| \*loud\* # no heading"
    row = f"| 39 | good | bad | 88.1 | {shown} |"
    assert row in section(text, "Reviews that every method gets wrong")
    add(folder, "tfidf", 0, right=40)
    report.misjudged(folder, texts, ["bad", "good"])
    assert "There are none." in section(page(folder), "Reviews that every method gets wrong")


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


@pytest.mark.parametrize(
    "given",
    [
        ["--experiment", "a name's", "--encoder-dropout", "own", "--accumulate", "auto"],
        ["--experiment", "full", "--lora-rank-stabilised", "--learning-rates", "lora=1e-5"],
        ["--experiment", "quick", "--train-examples", "all", "--seeds", "3", "4"],
    ],
)
def test_the_command_on_the_page_gives_the_same_constants(given):
    constants = vars(settings.parse(vars(finetuning), given))
    constants.pop("fresh"), constants.pop("tune")
    line = reproduce.command_line(json.loads(json.dumps(constants)))
    again = vars(settings.parse(vars(finetuning), shlex.split(line.replace("\\\n", " "))[2:]))
    again.pop("fresh"), again.pop("tune")
    assert {name: list(v) if isinstance(v, tuple) else v for name, v in again.items()} == {
        name: list(v) if isinstance(v, tuple) else v for name, v in constants.items()
    }


def test_a_recorded_command_goes_before_a_rebuilt_one(folder):
    assert "    python finetuning.py --experiment t --model tiny" in page(folder)
    about = EXPERIMENT | {"command": "python finetuning.py --methods head"}
    records.write(folder / "experiment.json", json.dumps(about))
    assert "    python finetuning.py --methods head\n" in page(folder)


@pytest.mark.parametrize("damage", ["nothing", "folder", "predictions", "json", "csv", "arguments"])
def test_what_cannot_be_reported_is_one_line_and_exit_status_2(folder, capsys, damage):
    arguments, said = [str(folder)], "is damaged"
    if damage == "nothing":
        (folder / "runs.csv").unlink()
        said = "has no finished runs"
    elif damage == "folder":
        arguments, said = [str(folder / "missing")], "has no finished runs"
    elif damage == "predictions":
        (folder / "predictions" / "lora-seed1.csv").unlink()
        said = "lora-seed1.csv is missing"
    elif damage == "json":
        (folder / "experiment.json").write_text("{")
    elif damage == "csv":
        (folder / "history.csv").write_bytes(b"\xff\xfe\x00")
    else:
        arguments, said = [], "give one folder"
    assert report.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and said in error
