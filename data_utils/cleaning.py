"""Clean texts and labels, the reasons to leave rows out, and warnings of spoilt comparisons."""

import re
import unicodedata
from typing import Any

import pandas as pd

from boundary import BadInput, some

from .columns import is_missing

TWO_LABELS = "a text with two labels"
UNKNOWN = "its label is not in train"
NO_NAMES = ("n/a", "na", "nan", "none", "null", "-", "?", "#n/a", "<na>")  # perhaps no label
FEW = 5  # a label with fewer texts may be missing in folds or splits
CONTROL = r"[\x00-\x1f\x7f-\x9f\u2028\u2029]"  # line breaks and other control characters
# What no reader sees: white space, soft hyphens, dots of a Turkish capital I in lower case, letters
# without width, marks of a text's direction, variants of emoji, a file's mark.
UNSEEN = r"[\s\u00ad\u0307\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufe0f\ufeff]+"
WIDE = {0xFEE0 + code: code for code in range(0x21, 0x7F)}  # letters as wide as Chinese ones
LARGEST = 0.9  # share of one label from which a warning is given
ENDS = 40  # letters at a text's beginning and end
COPIES = 0.1  # share of texts with the beginning or end of others from which a warning is given
GARBLED = "\ufffd|[ÂÃ][\x80-\xba]|â€"  # what is left of UTF-8 that was read as another encoding
SPOILT = 0.01  # share of garbled texts from which a warning is given


def clean(text: str) -> str:
    """The text as models read it: HTML line breaks become spaces, the ends are stripped.

    Letters with accents become one character each (NFC): in Unicode they may also be two.
    """
    text = re.sub(r"<br\s*/?>", " ", text)  # no words are glued together
    return unicodedata.normalize("NFC", text).strip()


def raw_texts(column: pd.Series, name: object) -> list[str]:
    """The texts as they are, "" for a missing one. Raises `BadInput` with the row of a non-text."""
    for row, text in column.items():
        check_text(text, f"{name}, row {row}: {column.name}")
    return column.where(column.notna(), "").tolist()


def check_text(cell: Any, place: str) -> None:
    """Raise `BadInput` for a cell that is neither text nor missing."""
    if not isinstance(cell, str) and not is_missing(cell):
        raise BadInput(f"{place} holds {type(cell).__name__}, not text")


def text_label(label: Any, name: str) -> str | None:
    """A label as text, None for a missing one. Raises `BadInput` where it cannot be a name."""
    if is_missing(label):
        return None
    label = whole(label)
    if not isinstance(label, str | bool | int) or re.search(CONTROL, str(label)):
        expected = 'expected texts of one line, such as "2.5", whole numbers or booleans'
        raise BadInput(f"{name} has the label {label!r:.60}; {expected}, or another --label-column")
    return unicodedata.normalize("NFC", str(label)).strip()


def whole(value: Any) -> Any:
    """12 for 12.0: a gap in a column of whole numbers makes floats of them."""
    return int(value) if isinstance(value, float) and value % 1 == 0 else value


def without_case_and_space(text: str) -> str:
    """The text without letter case, white space and `UNSEEN`, and with letters of one width.

    Texts and labels that are then equal look alike. Dotless i counts as i.
    """
    text = unicodedata.normalize("NFC", text).translate(WIDE).casefold().replace("ı", "i")
    return re.sub(UNSEEN, "", text)


def sorted_names(labels: pd.Series) -> list[str]:
    """The labels that occur, sorted: by size where all are numbers, else by letter."""
    names = sorted(labels.unique())
    are_numbers = all(re.fullmatch(r"-?\d+(\.\d+)?", name) for name in names)
    return sorted(names, key=float) if are_numbers else names


def reasons(rows: pd.DataFrame, group: str | None) -> pd.Series:
    """Why each row is left out, "" for rows that stay; the rows of train come last.

    Rows of an equal `content` are one text. Its first row is kept, but no row of a split in which
    it has two labels. A group stays in the first of its splits. A label must be learnt from other
    texts, and other groups, than it is tested on: where that cannot be, its rows are left out.
    """
    why = pd.Series("", rows.index)
    why[rows["label"].isna()] = "no label"
    why[rows["content"] == ""] = "empty text"
    kept = rows[why == ""]
    labels = kept.groupby(["split", "content"], sort=False)["label"].transform("nunique")
    first = kept.groupby("content", sort=False)["label"].transform("first")
    why[kept.index[kept["content"].duplicated()]] = "a repeated text"
    why[kept.index[(labels > 1) | (first != kept["label"])]] = TWO_LABELS  # which one is right?
    if group:
        kept = rows[why == ""]
        first = kept.groupby("group", sort=False)["split"].transform("first")
        why[kept.index[first != kept["split"]]] = f"its {group} is in another split"
    labels = rows.loc[why == "", "label"]
    why[labels.index[~labels.duplicated(keep=False)]] = "the only text of its label"
    kept = rows[why == ""]
    if kept["split"].nunique() > 1:
        unknown = ~kept["label"].isin(kept.loc[kept["split"] == "train", "label"])
        why[kept.index[unknown]] = UNKNOWN
        kept = kept[~unknown]
    if group and "test" not in set(kept["split"]):
        groups = kept.groupby("label", sort=False)["group"].transform("nunique")
        why[kept.index[groups == 1]] = f"its label is of one {group} alone"
    return why


def alike_labels(labels: pd.Series) -> list[str]:
    """A warning for each set of labels that may be one label, typed in several ways."""
    alike = {}
    for label in sorted_names(labels.dropna()):
        key = without_case_and_space(re.sub(r"^(-?\d+)\.0+$", r"\1", label))
        alike.setdefault(key, []).append(repr(label))
    return [
        f"the labels {' and '.join(names)} differ by space, case, Unicode form or .0: write equal "
        "labels alike"
        for names in alike.values()
        if len(names) > 1
    ]


def encoding_doubts(frame: pd.DataFrame, columns: list[str]) -> list[str]:
    """Warnings of letters that may be wrong in these columns, the text's last."""
    texts = frame[columns[-1]].astype(str)
    found = texts.str.extract(f"({GARBLED})", expand=False).dropna()
    if len(found) >= SPOILT * len(texts) > 0:
        line = f"{len(found) / len(texts):.0%} of the texts have such signs as {found.iloc[0]!r}"
        return [f"{line}, left by a wrong encoding: save them anew from where they came, as UTF-8"]
    if frame.attrs.get("encoding") != "cp1252":
        return []
    cells = frame[columns].astype(str).to_numpy().T.ravel()
    words = re.findall(r"[a-zA-Z]*[^\x00-\x7f]+\w*", " ".join(cells))
    told = some([repr(word) for word in dict.fromkeys(words)], 3)
    line = f"no UTF-8, but perhaps Windows-1252, with such words as {told}"
    return [f"{line}; if they are wrong, save the file as UTF-8"] * bool(words)


def doubts(frame: pd.DataFrame, columns: dict[str, str]) -> list[str]:
    """Reasons to doubt that a file was read as it was meant."""
    lines = encoding_doubts(frame, [columns["label"], columns["text"]])
    if (sign := frame.attrs.get("separator")) is None:
        return lines
    texts, labels = frame[columns["text"]], set(frame[columns["label"]]) - {""}
    place = list(frame).index(columns["label"])
    for row, text in texts.items():
        inner = [line.split(sign) for line in re.split(r"\r\n|\r|\n", text)[:-1]]
        if any(len(cells) == frame.shape[1] and cells[place] in labels for cells in inner):
            line = f"the text of row {row} holds other rows of the file, since a quote before them"
            lines.append(f"{line} is not closed; write a quote within a text twice")
    return lines[:5]


def label_warnings(counts: pd.Series) -> list[str]:
    """Warnings of labels, or numbers of texts by label, that spoil a comparison."""
    lines = []
    if rare := [f"{label!r} ({count})" for label, count in counts[counts < FEW].items()]:
        lines += [f"labels with fewer than {FEW} texts, too few to test well: {some(rare, 5)}"]
    if len(counts) > counts.sum() / FEW:
        line = f"{len(counts):,} labels for {counts.sum():,} texts: are they labels, or numbers of"
        lines.append(f"{line} customers or amounts? Else give another --label-column")
    if (share := counts.max() / counts.sum()) >= LARGEST:
        line = f"{share:.0%} of the texts have the label {counts.idxmax()!r}"
        line += ": who always says so is right as often"
        lines.append(f"{line}; with --metric macro_f1 every label counts alike")
    names = set(counts.index)
    several = [name for name in counts.index if _is_several(name, names)]
    if len(several) > 1:
        line = f"labels such as {several[0]!r} look like several labels of one text"
        lines.append(f"{line}, but a text has one label here: keep one in each cell")
    if unnamed := [repr(name) for name in counts.index if name.casefold() in NO_NAMES]:
        lines.append(f"the label {some(unnamed, 3)} may mean that there is none: empty such cells")
    return lines


def copy_warnings(contents: pd.Series) -> list[str]:
    """A warning where many texts begin or end as others do, numbers, case and space aside."""
    letters = contents.str.replace(r"\d", "", regex=True)
    alike = letters.str[:ENDS].duplicated(keep=False) | letters.str[-ENDS:].duplicated(keep=False)
    line = f"{alike.mean():.0%} of the texts begin or end as another does, numbers aside: if they "
    line += "are of one template or thread, the test is too easy; number templates or threads in a "
    line += "column, and give it as --group-column"
    return [line] * bool(alike.mean() >= COPIES)


def _is_several(name, names):
    """Whether a label is made of others, with ; , or | between them, and is no decimal number."""
    parts = re.split(r"\s*[;,|]\s*", name)
    return len(parts) > 1 and names.issuperset(parts) and not re.fullmatch(r"-?\d+,\d+", name)
