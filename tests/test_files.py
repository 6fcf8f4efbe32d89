"""One reader of files: every cell as it stands, and no row whose fields have shifted."""

import csv
import json
import random
import tracemalloc

import datasets
import pandas as pd
import pyarrow.parquet
import pytest

from boundary import BadInput
from data_utils import read_chunks, read_frame

SEPARATORS = {"commas": ",", "semicolons": ";", "tabs": "\t", "vertical bars": "|"}


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def save(frame, path):
    """Write a frame in the format that the path's name ends in; returns the path as text."""
    kinds = {
        ".csv": lambda: frame.to_csv(path, index=False),
        ".tsv": lambda: frame.to_csv(path, index=False, sep="\t"),
        ".json": lambda: path.write_text(json.dumps(frame.to_dict("records"))),
        ".jsonl": lambda: path.write_text("\n".join(map(json.dumps, frame.to_dict("records")))),
        ".parquet": lambda: frame.to_parquet(path),
    }
    kinds[path.suffix]()
    return str(path)


def cells(frame):
    return frame.to_numpy().tolist()


LONG = "put each text that holds a comma or a quote in double quotes"
SHIFTED = {  # file, the row that is named, what is said of it
    "unquoted commas": ("text,label\nfine,1\nslow, dull,0\n", 3, f"3 fields, .* has 2; {LONG}"),
    "in each row": ("text,label\na,b,1\nc,d,0\n", 2, f"3 fields, but the header has 2; {LONG}"),
    "in one column": ("text\ngood\nslow, dull\n", 3, f"2 fields, but the header has 1; {LONG}"),
    "a title": ("Tickets\n\ntext,label\na,1\n", 3, f"{LONG}.*; or delete what is above the he"),
    "too few fields": ("text,label\na,1\nb\n", 3, "1 fields, but the header has 2"),
    "after lines in quotes": ('text,label\n"a\nb\nc",1\n\nd,e,0\n', 4, "3 fields"),
    "an open quote": ('text,label\na,1\n"b,0\nc,1\n', 3, f"unexpected end of data; {LONG}"),
    "a quote within": ('text,label\n"a "b" c",0\n', 2, "write a quote within it twice"),
    "semicolons": ("text;label\na;1\nb;c;0\n", 3, "each text that holds a semicolon"),
}


def test_columns_without_a_name_are_told_apart(tmp_path):
    """A spreadsheet leaves them at the right; one alone is the index that pandas writes."""
    frame = read_frame(write(tmp_path / "right.csv", "text;label;;\na;1;;\nb;0;;x\n"))
    assert list(frame) == ["text", "label", "column 3", "column 4"]
    assert cells(frame) == [["a", "1", "", ""], ["b", "0", "", "x"]]
    assert list(read_frame(write(tmp_path / "index.csv", ",text\n0,a\n"))) == ["", "text"]


@pytest.mark.parametrize("name", SHIFTED)
def test_a_row_with_other_fields_than_the_header_is_named(tmp_path, name):
    content, row, line = SHIFTED[name]
    with pytest.raises(BadInput, match=rf"r\.csv, row {row}: .*{line}"):
        read_chunks(write(tmp_path / "r.csv", content))  # before the first chunk


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_blank_line_is_an_empty_text_in_one_column_and_nothing_in_several(tmp_path, end):
    frame = read_frame(write(tmp_path / "one.csv", end.join(["text", "a", "", "b", ""])))
    assert cells(frame) == [["a"], [""], ["b"]] and list(frame.index) == [2, 3, 4]
    frame = read_frame(write(tmp_path / "two.csv", end.join(["text,label", "a,1", "", "b,0", ""])))
    assert cells(frame) == [["a", "1"], ["b", "0"]] and list(frame.index) == [2, 4]


ENCODINGS = {"utf-8": "UTF-8", "utf-8-sig": "UTF-8", "utf-16": "UTF-16", "cp1252": "Windows-1252"}


@pytest.mark.parametrize("separator", SEPARATORS)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_separators_and_encodings_are_recognised(tmp_path, separator, encoding):
    rows = [[f"café, très; bon | {i}\tµ “x”", str(i % 2)] for i in range(30)]
    with (tmp_path / "r.csv").open("w", encoding=encoding, newline="") as file:
        csv.writer(file, delimiter=SEPARATORS[separator]).writerows([["text", "label"], *rows])
    frame = read_frame(tmp_path / "r.csv")
    assert list(frame) == ["text", "label"] and cells(frame) == rows
    assert frame.attrs["read_as"] == f"{separator}, {ENCODINGS[encoding]}"


def test_what_a_csv_writer_writes_is_read_as_it_was(tmp_path):
    """Cells of separators, quotes, line breaks and blanks, in random order."""
    draw = random.Random(0)
    for trial in range(60):
        width, sign = draw.randint(2, 5), draw.choice(list(SEPARATORS.values()))
        rows = [
            ["".join(draw.choices("01E ,;\t|\"\n'é=", k=draw.randint(0, 8))) for _ in range(width)]
            for _ in range(draw.randint(1, 200))
        ]
        with (tmp_path / "r.csv").open("w", encoding="utf-8", newline="") as file:
            header = [f"column {i}" for i in range(width)]
            csv.writer(file, delimiter=sign).writerows([header, *rows])
        assert cells(read_frame(tmp_path / "r.csv")) == rows, trial


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".json", ".jsonl", ".parquet"])
def test_chunks_are_the_frame_in_parts(tmp_path, suffix):
    frame = pd.DataFrame({"text": [f"text {i}" for i in range(25)], "n": range(25)})
    path = save(frame, tmp_path / f"r{suffix}")
    chunks, whole = list(read_chunks(path, rows=10)), read_frame(path)
    assert [len(chunk) for chunk in chunks] == [10, 10, 5]
    assert {chunk.attrs["rows"] for chunk in chunks} == {25}
    assert cells(pd.concat(chunks)) == cells(whole) and len(whole) == 25
    assert list(pd.concat(chunks).index) == list(whole.index)


def test_chunks_hold_little_of_a_large_file(tmp_path):
    with (tmp_path / "r.csv").open("w") as file:
        file.write("text,label\n")
        file.writelines(f"{'word ' * 50}{i},{i % 2}\n" for i in range(20_000))
    csv.field_size_limit(100)  # as of a new process: smaller than a text
    tracemalloc.start()
    assert sum(len(chunk) for chunk in read_chunks(tmp_path / "r.csv", rows=200)) == 20_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < (tmp_path / "r.csv").stat().st_size / 2


def test_json_and_parquet_keep_their_values(tmp_path):
    values = [{"id": 2**60 + 1, "x": None, "date": "2024-01-01"}, {"id": None, "x": 1, "y": True}]
    (tmp_path / "r.json").write_text("\n" + json.dumps(values))
    write(tmp_path / "r.jsonl", "\n\n".join(map(json.dumps, values)))
    write(tmp_path / "lines.json", "\ufeff" + "\n".join(map(json.dumps, values)))
    for name, index in (("r.json", [1, 2]), ("lines.json", [1, 2]), ("r.jsonl", [1, 3])):
        frame = read_frame(tmp_path / name)
        assert list(frame) == ["id", "x", "date", "y"] and list(frame.index) == index
        assert cells(frame) == [[2**60 + 1, None, "2024-01-01", None], [None, 1, None, True]]
    pd.DataFrame({"id": pd.array([2**60 + 1, None], "Int64")}).to_parquet(tmp_path / "r.parquet")
    assert cells(read_frame(tmp_path / "r.parquet")) == [[2**60 + 1], [None]]


def test_labels_of_a_parquet_file_of_datasets_are_names_where_it_has_the_column(tmp_path):
    data = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]})
    data = data.cast_column("label", datasets.ClassLabel(names=["bad", "good"]))
    data.to_parquet(tmp_path / "r.parquet")
    assert read_frame(tmp_path / "r.parquet")["label"].tolist() == ["good", "bad"]
    table = pyarrow.parquet.read_table(tmp_path / "r.parquet").select(["text"])  # metadata stays
    pyarrow.parquet.write_table(table, tmp_path / "unlabelled.parquet")
    assert cells(read_frame(tmp_path / "unlabelled.parquet")) == [["a"], ["b"]]


DAMAGED = ("text,label\n" + "schön,1\nübel,0\n" * 20).encode() + b"caf\xe9,1\n"
BAD = {
    "absent": ("r.csv", None, "does not exist"),
    "a spreadsheet": ("r.xlsx", b"PK\x03\x04", "is no .csv, .* file; .* save as 'CSV UTF-8'"),
    "a packed file": ("r.csv.gz", b"\x1f\x8b", "r.csv.gz is no .csv, .* file; unpack it$"),
    "a renamed spreadsheet": ("r.csv", b"PK\x03\x04 ...", "is a spreadsheet or an archive"),
    "damaged UTF-8": ("r.csv", DAMAGED, "is UTF-8 but for 1 of its bytes; .* 'CSV UTF-8'"),
    "Cyrillic": (
        "r.csv",
        "плохо: нет,1\n".encode("cp1251"),
        "1252 it has such words as 'ïëîõî'; .* save",
    ),
    "Greek beside English": ("r.jsonl", '{"text": "κακό", "label": "no"}'.encode("cp1253"), "1252"),
    "Arabic": ("r.csv", "سيئ جدا,1\n".encode("cp1256"), "Windows-1252"),
    "Chinese": ("r.jsonl", '{"text": "物流很慢"}'.encode("gb18030"), "1252 it has such words as"),
    "no mark": ("r.csv", "text,label\n".encode("utf-16-le"), "r.csv is UTF-16 without its mark"),
    "UTF-32": ("r.csv", "text,label\n".encode("utf-32"), "or UTF-32, or no text; .* 'CSV UTF-8'"),
    "empty": ("r.csv", "", "has no data; expected a header, a row for each text"),
    "a header alone": ("r.csv", "text,label\n", "has no data; expected a header"),
    "one name twice": ("r.csv", "text,a,text\nx,y,z\n", "two columns of the name 'text'; ren"),
    "no objects": ("r.json", '["text"]', "r.json, row 1: no object; expected a list of objects"),
    "an object": ("r.json", '{"text":\n["a", "b"]}', "line 1 cannot be read .*a list of obj"),
    "half a line": ("r.jsonl", '{"text": "a"}\n{"tex', "r.jsonl, line 2 cannot be read"),
    "half a Parquet file": ("r.parquet", b"PAR1 ...", "r.parquet cannot be read .*a whole Parquet"),
}


@pytest.mark.parametrize(
    "text",
    [
        "Größe über alles",
        "ÉTÉ À LA CRÊPERIE",
        "ağaç güneş değil",
        "36,9 °",
        "12 € – •••••",
        "a\xa0\xa0\xa0b",
    ],
)
def test_accents_and_signs_of_windows_1252_are_read(tmp_path, text):
    encoding = (
        "cp1254" if "ğ" in text else "cp1252"
    )  # Turkish: close enough to be read with a doubt
    (tmp_path / "r.csv").write_bytes(f"text;label\n{text};1\n".encode(encoding))
    (row,) = cells(read_frame(tmp_path / "r.csv"))
    assert row == [text.replace("ğ", "ð").replace("ş", "þ"), "1"]


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_read_is_refused_in_one_line(tmp_path, name):
    file, content, line = BAD[name]
    if content is not None:
        write(tmp_path / file, content)
    with pytest.raises(BadInput, match=line) as error:
        read_frame(tmp_path / file)
    assert file in str(error.value) and "\n" not in str(error.value)
