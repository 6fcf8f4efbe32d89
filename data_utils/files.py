"""A file of rows as a table: one reader, for training and for prediction.

    .csv .tsv       every cell is text, just as it stands: a label 01 stays 01, and 1E2 stays 1E2
    .json .jsonl    a list of objects, or an object a line
    .parquet        values keep their types; the labels of `datasets` are names, not numbers

A row with more or fewer fields than the header is refused: otherwise a text with a comma would
shift the columns. The index of a frame is each row's number in its file: the header of a CSV
file is row 1, as in a spreadsheet; otherwise the first row, or line, is 1. `attrs["read_as"]` says
how the file was understood, `attrs["separator"]` and `attrs["encoding"]` how a CSV file is written.
"""

import codecs
import csv
import json
import re
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import pandas as pd
from pyarrow.parquet import ParquetFile

from boundary import BadInput, expanded, reading

from .cleaning import check_text

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
ENCODINGS = {"utf-8": "UTF-8", "utf-8-sig": "UTF-8", "utf-16": "UTF-16", "cp1252": "Windows-1252"}
SHEET = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0", b"\x1f\x8b")  # how .xlsx, .xls and .gz begin
ACCENTS = r"[^\x00-\x7f\xa0–—‘’“”…•€]+"
SAVE = "in a spreadsheet, save as 'CSV UTF-8'"
PACKED = (".gz", ".zip", ".bz2", ".xz")
JSON = "a list of objects, or an object a line"


def read_frame(path: str | Path) -> pd.DataFrame:
    """All rows of a file, at least one. Raises `BadInput` that names file and row."""
    return next(read_chunks(path, rows=None))


def read_chunks(
    path: str | Path, rows: int | None = 10_000, text: str | None = None
) -> Iterator[pd.DataFrame]:
    """The rows of a file, `rows` at a time; `attrs["rows"]` counts the rows of the whole file.

    Every row is checked before the first chunk is returned, so that nothing is computed for a file
    that is then refused. The column `text` must hold text, or nothing. A JSON file that is one list
    is held in memory; of other files only a chunk is.
    """
    path = expanded(path)
    if not path.exists():
        raise BadInput(f"{path} does not exist")
    if path.is_dir() or path.suffix.lower() not in READERS:
        todo = "unpack it" if path.suffix.lower() in PACKED else f"{SAVE}, or convert it to another"
        raise BadInput(f"{path} is no {', '.join(READERS)} file; {todo}")
    open_table, expected = READERS[path.suffix.lower()]
    with reading(str(path), f"expected {expected}"):
        records, attrs = open_table(path)  # records() begins at the first row
        columns, count = {}, 0
        for number, row in records():
            if not isinstance(row, dict):
                raise BadInput(f"{path}, row {number}: no object; expected {expected}")
            check_text(row.get(text), f"{path}, row {number}: {text}")
            columns.update(row)
            count += 1
        if not count:
            raise BadInput(f"{path} has no data; expected {expected}")
    return _chunks(path, records(), list(columns), rows or count, attrs | {"rows": count})


def _chunks(path, records, columns, rows, attrs):
    with reading(str(path)):
        while chunk := list(islice(records, rows)):
            index = pd.Index([number for number, _ in chunk], name="row")
            cells = [[row.get(name) for name in columns] for _, row in chunk]
            frame = pd.DataFrame(cells, index, columns, dtype=object)
            frame.attrs |= attrs
            yield frame


def _csv(path):
    """The rows of a CSV file, by the separator that suits its first rows.

    It divides all of them into as many fields as the header, at least two. Where none does, the
    file has one column.
    """
    csv.field_size_limit(2**31 - 1)  # a text may be a book
    encoding, fits = encoding_of(path), {}
    for sign in "\t" if path.suffix.lower() == ".tsv" else SEPARATORS:
        with path.open(encoding=encoding, newline="") as file:
            rows = islice(csv.reader(file, delimiter=sign), 100)
            widths = [len(row) for row in rows if row] or [0]
        fits[sign] = len(set(widths)) == 1 and widths[0] > 1, widths[0]
    sign = max(fits, key=fits.get)
    layout = f"{SEPARATORS[sign]}s" if fits[sign][0] else "one column"
    attrs = {"read_as": f"{layout}, {ENCODINGS[encoding]}", "separator": sign, "encoding": encoding}
    return partial(_csv_rows, path, encoding, sign), attrs


def _csv_rows(path, encoding, sign):
    text = f"text that holds a {SEPARATORS[sign]} or a quote"
    remedy = f"put each {text} in double quotes, and write a quote within it twice"
    header, number, is_first = [], 0, True
    with path.open(encoding=encoding, newline="") as file:
        try:
            for number, row in enumerate(csv.reader(file, delimiter=sign, strict=True), 1):
                if not header:
                    header = [name.strip() for name in row]
                    if header.count("") > 1:  # a spreadsheet leaves such columns at the right
                        header = [name or f"column {i}" for i, name in enumerate(header, 1)]
                    if row and row[0].startswith("sep="):
                        raise BadInput(f"{path} begins with a line 'sep='; delete it")
                    if twice := [name for name in header if header.count(name) > 1]:
                        line = f"{path} has two columns of the name {twice[0]!r}"
                        raise BadInput(f"{line}; rename or delete one")
                elif row or len(header) == 1:  # a blank line of one column is an empty text
                    row = row or [""]
                    if len(row) != len(header):
                        line = f"{path}, row {number}: {len(row)} fields"
                        if len(header) == 1 and is_first:  # a title above the header?
                            remedy = f"{remedy}; or delete what is above the header"
                        raise BadInput(f"{line}, but the header has {len(header)}; {remedy}")
                    is_first = is_first and row == [""]
                    yield number, dict(zip(header, row, strict=True))
        except csv.Error as error:
            raise BadInput(f"{path}, row {number + 1}: {error}; {remedy}") from None


def encoding_of(path: Path) -> str:
    """One of `ENCODINGS`: UTF-8, with its mark or without, UTF-16, or else Windows-1252.

    A file that is UTF-8 but for a few bytes is refused: as Windows-1252 all accents would be wrong.
    So is a file most of whose accents would stand three and more in a row.
    """
    with path.open("rb") as file:
        head = file.read(4)
    if head.startswith(SHEET):
        raise BadInput(f"{path} is a spreadsheet or an archive, and not text; unpack it, or {SAVE}")
    is_utf16 = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if head.startswith(codecs.BOM_UTF32_LE) or (b"\0" in head and not is_utf16):
        raise BadInput(f"{path} is UTF-16 without its mark, or UTF-32, or no text; {SAVE}")
    if is_utf16:
        return "utf-16"
    try:
        with path.open(encoding="utf-8") as file:
            while file.read(2**16):
                pass
        return "utf-8-sig" if head.startswith(codecs.BOM_UTF8) else "utf-8"
    except UnicodeDecodeError:
        damaged = accents = 0
        with path.open(encoding="utf-8", errors="replace") as file:
            while part := file.read(2**16):
                damaged += part.count("\ufffd")
                accents += len(part) - len(part.encode("ascii", "ignore"))
        if accents > 2 * damaged:
            raise BadInput(f"{path} is UTF-8 but for {damaged:,} of its bytes; {SAVE}") from None
    accents = long = 0
    words = [""]
    with reading(str(path), SAVE), path.open(encoding="cp1252") as file:
        while part := file.read(2**16):
            found = [word for word in re.findall(ACCENTS, part) if any(map(str.isalpha, word))]
            accents += sum(map(len, found))
            long += sum(len(word) for word in found if len(word) > 2)
            words = [max([*words, *found], key=len)]
    if long > accents / 2:  # letters that are Cyrillic, Arabic or Chinese
        line = f"{path} is not UTF-8, and as Windows-1252 it has such words as {words[0][:20]!r}"
        raise BadInput(f"{line}; {SAVE}")
    return "cp1252"


def _json(path):
    encoding = encoding_of(path)
    attrs = {"read_as": f"JSON, {ENCODINGS[encoding]}", "encoding": encoding}
    return partial(_json_rows, path, encoding), attrs


def _json_rows(path, encoding):
    with path.open(encoding=encoding) as file:
        first = next((line for line in file if line.strip()), "")
        if first.lstrip().startswith("["):
            yield from enumerate(_parsed(path.read_text(encoding)), 1)
            return
        file.seek(0)
        for number, line in enumerate(file, 1):
            if line.strip():
                with reading(f"{path}, line {number}", f"expected {JSON}"):
                    row = _parsed(line)
                yield number, row


def _parsed(text):
    r"""JSON in which half an emoji, such as "\ud83d" at the end of a cut text, is U+FFFD."""
    value = json.loads(text)
    if "\\ud" in text.lower():
        halves = json.dumps(value, ensure_ascii=False).encode("utf-16", "surrogatepass")
        value = json.loads(halves.decode("utf-16", "replace"))
    return value


def _parquet(path):
    file = ParquetFile(path)
    about = json.loads((file.schema_arrow.metadata or {}).get(b"huggingface", b"{}"))
    features = about.get("info", {}).get("features", {})  # as the library `datasets` writes them
    named = [name for name, f in features.items() if isinstance(f, dict) and "names" in f]
    named = [name for name in named if name in file.schema_arrow.names]  # or it was left out
    names = {column: dict(enumerate(features[column]["names"])) for column in named}

    def rows():
        rows = (row for part in file.iter_batches() for row in part.to_pylist())
        for number, row in enumerate(rows, 1):
            yield number, row | {column: names[column].get(row[column]) for column in names}

    return rows, {"read_as": "Parquet"}


READERS = {
    ".csv": (_csv, "a header, a row for each text, texts in double quotes"),
    ".tsv": (_csv, "a header, a row for each text, tabs between the fields"),
    ".json": (_json, JSON),
    ".jsonl": (_json, JSON),
    ".parquet": (_parquet, "a whole Parquet file"),
}
