"""`python -m modeling.predict`: the user's rows with labels, whatever the file, or one line."""

import codecs
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from conftest import raising
from safetensors.torch import load_file, save_file
from test_checkpoint import TEXTS, checkpoint, edit  # noqa: F401

from data_utils import read_frame
from modeling import Method, load_finetuned, predict
from modeling.checkpoint import ABOUT, TENSORS, save_combination

pytestmark = pytest.mark.usefixtures("in_float32_on_the_cpu")
FULL = Path("/dev/full")
ADDED = ["label", "confidence", "probability_bad", "probability_good"]
EACH = ADDED[2:]


@pytest.fixture
def run(checkpoint, tmp_path, monkeypatch, capsys):
    """A function that classifies a file in an empty folder: exit status, table, what was printed.

    The checkpoint is of texts in a column `body`.
    """
    folder, _ = checkpoint()
    place = tmp_path / "place"
    place.mkdir()
    monkeypatch.chdir(place)

    def run(*arguments, texts=None, name="new.csv"):
        Path("predictions.csv").unlink(missing_ok=True)
        if texts is not None:
            Path(name).write_bytes(texts if isinstance(texts, bytes) else texts.encode())
        status = predict.main([str(folder), name, *arguments])
        output = Path("predictions.csv")
        table = output.exists() and pd.read_csv(output, dtype=str, keep_default_na=False)
        printed = capsys.readouterr()
        return status, table, printed.out + printed.err

    run.folder = folder
    return run


def test_the_output_is_the_file_with_a_label_and_probabilities(run):
    tensors = load_file(run.folder / TENSORS)
    tensors["classifier.bias"][1] += 2  # else both texts were bad
    save_file(tensors, run.folder / TENSORS)
    rows = "id,body,note\n007,a good film,\n1E2,awful,NA\n"
    status, table, printed = run(texts=rows)
    assert status == 0 and list(table) == ["id", "body", "note", *ADDED]
    assert table["id"].tolist() == ["007", "1E2"] and table["note"].tolist() == ["", "NA"]
    classify = load_finetuned(run.folder)
    labels, confidence = zip(*classify(table["body"]), strict=True)
    assert table["label"].tolist() == list(labels)
    assert table["confidence"].astype(float).tolist() == pytest.approx(confidence, abs=1e-6)
    assert set(labels) == {"bad", "good"}
    found = table[EACH].astype(float).to_numpy()
    assert found == pytest.approx(classify.probabilities(table["body"]).numpy(), abs=1e-6)
    assert "new.csv: commas, UTF-8; 2 texts in 'body'" in printed
    assert "2 texts, by lora: predictions.csv" in printed
    assert sorted(os.listdir()) == ["new.csv", "predictions.csv"]


@pytest.mark.parametrize(
    ("name", "separator", "encoding", "begins"),
    [
        ("excel.csv", ";", "utf-8-sig", codecs.BOM_UTF8),
        ("excel.csv", ";", "cp1252", codecs.BOM_UTF8),  # Excel would read UTF-8 alone as this
        ("unicode.csv", "\t", "utf-16", codecs.BOM_UTF8),
        ("new.tsv", "\t", "utf-8", b"n\t"),
    ],
)
def test_a_spreadsheet_opens_the_output_as_it_did_the_file(run, name, separator, encoding, begins):
    frame = pd.DataFrame({"n": ["1", "2"], "body": ["ein Café; good\t, film", "dull\nfilm"]})
    frame.to_csv(name, sep=separator, index=False, encoding=encoding)
    status, _, printed = run(name=name)
    assert ("perhaps Windows-1252, with such words as 'Café'" in printed) == (encoding == "cp1252")
    assert status == 0 and Path("predictions.csv").read_bytes().startswith(begins)
    table = pd.read_csv("predictions.csv", sep=separator, dtype=str)
    assert list(table) == ["n", "body", *ADDED] and table[["n", "body"]].equals(frame)
    sign, other = (",", ".") if separator == ";" else (".", ",")
    for probabilities in table[EACH].to_numpy():
        numbers = [float(cell.replace(sign, ".")) for cell in probabilities]
        assert other not in "".join(probabilities) and sum(numbers) == pytest.approx(1, abs=1e-6)


def test_a_return_in_a_cell_and_another_separator_make_a_file_that_is_read_again(run, tmp_path):
    frame = pd.DataFrame({"n": ["1\r2"], "body": ["a, good film"]})
    frame.to_parquet("new.parquet")
    given = [str(run.folder), "new.parquet", "--output", "new.tsv"]
    assert predict.main(given) == 0
    table = read_frame("new.tsv")
    assert list(table) == ["n", "body", *ADDED] and table["n"].tolist() == ["1\n2"]


def test_html_and_missing_texts_are_read_as_in_training(run, monkeypatch):
    texts = ["dull<br<br>>plot", " good<br />film", "<br />", None]
    frame = pd.DataFrame({"body": texts, "more": [{"a": "ü"}, [1], None, "=1"]})
    frame.to_json("new.jsonl", orient="records", lines=True)
    status, table, printed = run(name="new.jsonl")
    expected = load_finetuned(run.folder).probabilities(texts[:2])
    assert status == 0 and "empty, without a label: 2" in printed
    assert table["more"].tolist() == ['{"a": "ü"}', "[1]", "", "'=1"]
    assert table[2:][["label", ADDED[1]]].to_numpy().tolist() == [["", ""]] * 2
    told = table[EACH][:2].astype(float).to_numpy()
    assert told == pytest.approx(expected.numpy(), abs=1e-6)
    monkeypatch.setattr(predict, "load_finetuned", None)  # nothing is computed
    pd.DataFrame({"body": ["good", 3]}).to_json("new.jsonl", orient="records", lines=True)
    status, table, printed = run(name="new.jsonl")
    assert status == 2 and "new.jsonl, row 2: body holds int, not text" in printed and not table


def test_the_column_is_that_of_training_or_the_one_that_is_named(run):
    both = "text,body\na good film,very dull\n"
    assert run(texts=both)[1]["label"][0] == load_finetuned(run.folder)("very dull")[0]
    named = run("--text-column", "text")[1]
    good = load_finetuned(run.folder).probabilities("a good film")[0, 0].item()
    assert float(named["probability_bad"][0]) == pytest.approx(good, abs=1e-6)
    status, table, printed = run(texts="Body \na good film\n")  # as training finds it
    assert float(table["probability_bad"][0]) == pytest.approx(good, abs=1e-6)
    assert status == 0 and "1 texts in 'Body'" in printed


STOPPED = [(MemoryError, 1, "out of memory; free some"), (KeyboardInterrupt, 130, "interrupted: n")]


@pytest.mark.parametrize(("error", "expected", "line"), STOPPED)
def test_a_full_memory_or_an_interrupt_is_one_line(run, monkeypatch, error, expected, line):
    monkeypatch.setattr(predict, "load_finetuned", raising(error))
    status, table, printed = run(texts="body\na good film\n")
    assert status == expected and not table and f"\n{line}" in printed
    assert os.listdir() == ["new.csv"]


def test_columns_of_our_names_stay_and_ours_get_others(run):
    status, table, printed = run(texts="label,body,predicted_label\nx,good,y\n")
    ours = [f"predicted_predicted_{name}" for name in ADDED]
    assert status == 0 and list(table) == ["label", "body", "predicted_label", *ours]
    assert table.iloc[0, [0, 2]].tolist() == ["x", "y"] and table[ours[0]][0] in ("bad", "good")
    assert f"the file has columns of our names: ours are {', '.join(ours)}" in printed


def test_no_cell_is_a_formula(run):
    edit(run.folder, label_names=["=1+1", "good"])
    status, table, _ = run(texts='body,=n,m\n"=HYPERLINK(""x"")",-3.5,+1\n@good,-a,a=b\n')
    assert status == 0
    assert list(table) == ["body", "'=n", "m", *ADDED[:2], "probability_=1+1", "probability_good"]
    assert table["body"].tolist() == ['\'=HYPERLINK("x")', "'@good"]
    assert table["'=n"].tolist() == ["-3.5", "'-a"] and table["m"].tolist() == ["+1", "a=b"]
    assert set(table["label"]) <= {"'=1+1", "good"}


def test_chunks_of_the_file_give_the_rows_of_the_whole(run, monkeypatch):
    rows = "body\n" + "".join(f"{text}\n" for text in TEXTS * 5)
    _, whole, _ = run(texts=rows)
    monkeypatch.setattr(predict, "ROWS", 3)
    monkeypatch.setattr(predict, "SECONDS", 0)
    sizes, read = [], predict.labelled
    monkeypatch.setattr(predict, "labelled", lambda *a: sizes.append(len(a[0])) or read(*a))
    status, parts, printed = run(texts=rows)
    assert status == 0 and sizes == [3] * 6 + [2]
    assert parts["body"].equals(whole["body"]) and parts["label"].equals(whole["label"])
    assert "18/20" in printed  # a sign now and then, where there is no terminal


SHIFTED = "body,note\n" + "good,\n" * 9000 + "dull, very dull,x\n"
REFUSED = [  # the file, --output, and what is said
    (SHIFTED, "p.csv", "new.csv, row 9002: 3 fields, but the header has 2"),
    ("title,text\na,b\n", "p.csv", "no column 'body'; it has 'title', 'text'; name it with"),
    ("Body,BODY\na,b\n", "p.csv", "no column 'body'; it has 'Body', 'BODY'; name it with"),
    ("body\ngood\n", "new.csv", "new.csv exists; move it, or choose another --output"),
    ("body\ngood\n", "new.csv/p.csv", "cannot be written .*choose another --output"),
    ("body\ngood\n", "x" * 300 + ".csv", "cannot be written .*name too long.*choose another --out"),
    ("body\ngood\n", "p.parquet", "p.parquet: the output is CSV; choose an --output that ends in"),
]


@pytest.mark.parametrize(("texts", "output", "line"), REFUSED)
def test_what_cannot_be_read_or_written_is_refused_first(run, monkeypatch, texts, output, line):
    monkeypatch.setattr(predict, "load_finetuned", None)
    status, _, printed = run("--output", output, texts=texts)
    assert status == 2 and re.match(f"error: .*{line}", printed, re.I) and printed.count("\n") == 1
    assert os.listdir() == ["new.csv"]


def test_a_full_disk_is_one_line_and_leaves_nothing(run, monkeypatch):
    def opened(path, mode="r", inner=Path.open, **options):
        return inner(FULL if mode == "w" else path, mode, **options)

    monkeypatch.setattr(Path, "open", opened)
    status, _, printed = run(texts="body\ngood\n")
    assert status == 2 and "error: predictions.csv cannot be written (" in printed
    assert "No space left on device" in printed and "make room, or choose another" in printed
    assert os.listdir() == ["new.csv"]


def test_the_command_runs_and_its_help_shows_all_options(run):
    Path("new.csv").write_text("body\na good film\n")
    root = Path(predict.__file__).parents[1]
    command = [sys.executable, "-m", "modeling.predict"]
    shown = subprocess.run([*command, "--help"], cwd=root, capture_output=True, text=True)
    assert shown.returncode == 0
    for option in ("--output", "--text-column", "--base", "--traceback", "predicted_", "formula"):
        assert option in shown.stdout
    base = json.loads((run.folder / ABOUT).read_text())["base_model"]
    edit(run.folder, base_model="moved")
    save_combination(final := run.folder.parent / "f", Method.parse("lora", {}), [run.folder])
    files = [str(Path("new.csv").resolve()), f"--output={Path('p.csv').resolve()}"]
    for more, status in (["--base", base], 0), ([], 2):
        ran = subprocess.run([*command, str(final), *files, *more], cwd=root, capture_output=True)
        assert ran.returncode == status, ran.stderr
    assert list(pd.read_csv("p.csv"))[1:] == ADDED


def test_whole_numbers_of_json_stay_whole_and_half_an_emoji_is_no_error(run):
    ids = [1234567890123456789, 3, None, 1.5]
    rows = [{"body": "a good film", "id": i, "when": "x\ud83d"} for i in ids]
    status, table, _ = run(texts="\n".join(map(json.dumps, rows)), name="new.jsonl")
    assert status == 0
    assert table["id"].tolist() == ["1234567890123456789", "3", "", "1.5"]
    assert table["when"].tolist() == ["x\ufffd"] * 4
