"""A file of rows as a table: one reader, for training and for prediction.

    .csv .tsv   every cell is text, just as it stands: a label 01 stays 01, and 1E2 stays 1E2
    .json       a list of objects             .jsonl   an object a line
    .parquet    values keep their types

A row with more or fewer fields than the header is refused: otherwise a text with a comma would
shift the columns. The index of a frame is each row's number as its file counts: the header of a CSV
file is row 1, as in a spreadsheet; otherwise the first row, or line, is 1. `attrs["read_as"]` says
how the file was understood.
"""

import codecs
import csv
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

import pandas as pd
import pyarrow as pa
from pyarrow.parquet import ParquetFile

from boundary import BadInput, expanded, reading, reason

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
ENCODINGS = {"utf-8-sig": "UTF-8", "cp1252": "Windows-1252", "latin-1": "Latin-1"}
ENCODINGS |= dict.fromkeys(("utf-16", "utf-16-le", "utf-16-be"), "UTF-16")
SAMPLE = 100  # rows that tell the separator
BLOCK = 2**20  # bytes read at once where the encoding is recognised
SHEET = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # how .xlsx and .xls begin
SAVE = "in a spreadsheet, save as 'CSV UTF-8'"


@dataclass(frozen=True)
class Table:
    """A file whose rows can be read from the beginning any number of times."""

    path: Path
    columns: list[str]
    read_as: str
    records: Callable[[], Iterator[tuple[int, list]]]  # the number and the values of each row
    label_names: dict[str, list[str]] = field(default_factory=dict)  # of columns that hold numbers

    def frame(self, records: Iterable[tuple[int, list]], **attrs) -> pd.DataFrame:
        """A frame of these rows, with the file's own values."""
        numbers, values = zip(*records, strict=True)
        index = pd.Index(numbers, name="row")
        frame = pd.DataFrame(list(values), index, self.columns, dtype=object)
        frame.attrs |= {"read_as": self.read_as, "label_names": self.label_names} | attrs
        return frame


def read_frame(path: str | Path) -> pd.DataFrame:
    """All rows of a file, which has one at least. Raises `BadInput` that names file and row."""
    return next(read_chunks(path, rows=None))


def read_chunks(path: str | Path, rows: int | None = 10_000) -> Iterator[pd.DataFrame]:
    """The same, some `rows` at a time; `attrs["rows"]` counts those of the whole file.

    Every row is checked before the first is returned, so that nothing is computed for a file that
    is then refused. A .json file is held in memory; of the others only a chunk is.
    """
    path = expanded(path)
    kind = path.suffix.lower()
    if path.is_dir() or not path.exists():
        raise BadInput(f"{path} {'is a folder' if path.is_dir() else 'does not exist'}")
    if kind not in READERS:
        raise BadInput(f"{path} is no {', '.join(READERS)} file; {SAVE}, or convert it to another")
    open_table, expected = READERS[kind]
    with reading(str(path), f"expected {expected}"):
        table = open_table(path)
        if rows is None:
            records = list(table.records())
            count = len(records)
        else:
            records, count = table.records(), sum(1 for _ in table.records())
        if not count:
            raise BadInput(f"{path} has no data; expected a row for each text")
    return _chunks(table, iter(records), rows or count, count)


def _chunks(table, records, rows, count):
    with reading(str(table.path)):
        while chunk := list(islice(records, rows)):
            yield table.frame(chunk, rows=count)


# ---------------------------------------------------------------------------- CSV


def _csv_table(path):
    encoding = encoding_of(path)
    separators = dict.fromkeys("\t" if path.suffix.lower() == ".tsv" else ",") | SEPARATORS
    samples = [_sample(path, encoding, separator) for separator in separators]
    _, width, separator, header = max(samples, key=lambda sample: sample[:2])
    if not header:
        raise BadInput(f"{path} is empty; expected a header, and a row for each text")
    columns = [name.strip() or f"column {i}" for i, name in enumerate(header, 1)]
    if len(set(columns)) < width:
        twice = next(name for name in columns if columns.count(name) > 1)
        raise BadInput(f"{path} has two columns {twice!r}; rename one")
    layout = f"{SEPARATORS[separator]}s" if width > 1 else "one column"
    records = partial(_csv_records, path, encoding, separator, width)
    return Table(path, columns, f"{layout}, {ENCODINGS[encoding]}", records)


def _rows(path, encoding, separator):
    """The number and the fields of each row, the header and blank lines among them."""
    csv.field_size_limit(2**31 - 1)
    with path.open(encoding=encoding, newline="") as file:
        rows, number = csv.reader(file, delimiter=separator, strict=True), 0
        try:
            for number, row in enumerate(rows, 1):
                line = "".join(row)
                is_hint = number == 1 and line.startswith("sep=") and len(line) <= 5  # for Excel
                yield number, [] if is_hint else row
        except csv.Error as error:
            remedy = 'put the text in double quotes, and write a quote within it as ""'
            raise BadInput(f"{path}, row {number + 1}: {error}; {remedy}") from None


def _sample(path, encoding, separator):
    """Whether this separates the first rows into as many fields as the header, and the header."""
    rows, widths = [], set()
    try:
        for _, row in islice(_rows(path, encoding, separator), SAMPLE):
            rows.append(row)
    except BadInput:
        widths.add(None)
    header = next(filter(None, rows), [])
    widths |= {len(row) for row in rows if row}
    return len(header) > 1 and widths == {len(header)}, len(header), separator, header


def _csv_records(path, encoding, separator, width):
    rows = _rows(path, encoding, separator)
    next(row for row in rows if row[1])  # the header
    for number, row in rows:
        if len(row) == width:
            yield number, row
        elif not row:  # a blank line: where there is one column, a text without letters
            if width == 1:
                yield number, [""]
        else:
            sign = SEPARATORS[separator]
            remedy = f"put each text that holds a {sign} in double quotes"
            if len(row) < width:
                remedy = "give every row all of the fields, and close all quotes"
            elif not any(row[width:]):
                remedy = f"delete the {sign} at the end of the row, or give it to the header too"
            count = f"{len(row)} field{'s' if len(row) > 1 else ''}"
            raise BadInput(f"{path}, row {number}: {count}, but the header has {width}; {remedy}")


def encoding_of(path: Path) -> str:
    """UTF-8, with or without its mark, UTF-16, or else Windows-1252 (Latin-1).

    A file that is UTF-8 but for a few bytes is refused: as Windows-1252 all accents would be wrong.
    """
    with path.open("rb") as file:
        head = file.read(4000)
        if head.startswith(SHEET):
            raise BadInput(f"{path} is a spreadsheet or an archive, and not text; {SAVE}")
        if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return "utf-16"
        for encoding, zeros in (("utf-16-le", head[1::2]), ("utf-16-be", head[::2])):
            if zeros.count(0) > len(zeros) / 2:
                return encoding
        if _decodes(file, "utf-8"):
            return "utf-8-sig"
        file.seek(0)
        text = file.read().decode("utf-8", "replace")
        bad = text.count("\ufffd")
        if len(text) - len(text.encode("ascii", "ignore")) > 2 * bad:
            raise BadInput(f"{path} is UTF-8 but for {bad:,} bytes; {SAVE}")
        return "cp1252" if _decodes(file, "cp1252") else "latin-1"


def _decodes(file, encoding):
    decoder = codecs.getincrementaldecoder(encoding)()
    file.seek(0)
    try:
        for block in iter(partial(file.read, BLOCK), b""):
            decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


# ---------------------------------------------------------------------------- JSON, Parquet


def _json_table(path, is_lines):
    records = partial(_json_lines if is_lines else _json_objects, path, encoding_of(path))
    if not is_lines:  # it is in memory in any case
        objects = list(records())
        records = partial(iter, objects)
    columns = list(dict.fromkeys(name for _, row in records() for name in row))

    def values():
        return ((number, [row.get(name) for name in columns]) for number, row in records())

    return Table(path, columns, "JSON lines" if is_lines else "JSON", values)


def _json_objects(path, encoding):
    rows = json.loads(path.read_text(encoding))
    if not isinstance(rows, list):
        raise BadInput(f"{path} holds no list; expected a list of objects")
    for number, row in enumerate(rows, 1):
        yield number, _object(row, f"{path}, row {number}")


def _json_lines(path, encoding):
    with path.open(encoding=encoding) as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    row = json.loads(line)
                except ValueError as error:
                    raise BadInput(f"{path}, line {number}: no JSON ({reason(error)})") from None
                yield number, _object(row, f"{path}, line {number}")


def _object(row, place):
    if not isinstance(row, dict):
        raise BadInput(f"{place}: expected an object, such as {{'text': …, 'label': …}}")
    return row


def _parquet_table(path):
    file = ParquetFile(path)

    def records():
        batches = file.iter_batches()
        rows = (row for batch in batches for row in arrow_rows(batch))
        return enumerate(rows, 1)

    return Table(path, file.schema_arrow.names, "Parquet", records, _label_names(file.schema_arrow))


def arrow_rows(table: pa.Table | pa.RecordBatch) -> Iterator[tuple]:
    """The values of each row, as Python has them."""
    return zip(*(column.to_pylist() for column in table.columns), strict=True)


def _label_names(schema):
    """The labels' names by column, where the library `datasets` has written them."""
    about = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    features = about.get("info", {}).get("features", {})
    kinds = {column: kind for column, kind in features.items() if isinstance(kind, dict)}
    return {name: k["names"] for name, k in kinds.items() if k.get("_type") == "ClassLabel"}


READERS = {
    ".csv": (_csv_table, "a header, a row for each text, texts in double quotes"),
    ".tsv": (_csv_table, "a header, a row for each text, tabs between the fields"),
    ".json": (
        partial(_json_table, is_lines=False),
        "a list of objects (an object a line is .jsonl)",
    ),
    ".jsonl": (partial(_json_table, is_lines=True), "an object a line"),
    ".parquet": (_parquet_table, "a whole Parquet file"),
}
