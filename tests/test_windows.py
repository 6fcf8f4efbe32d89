"""What Windows does otherwise, as far as Linux can show it."""

import os
import platform
import shlex
import subprocess
import sys
from pathlib import PureWindowsPath
from types import SimpleNamespace

import pytest
from conftest import raising

import boundary
import hardware
import modeling.loading
from boundary import BadInput, quoted
from data_utils import load_task
from experiment import command
from modeling import export


def test_a_hub_name_keeps_its_slash(monkeypatch):
    monkeypatch.setattr(modeling.loading, "expanded", PureWindowsPath)
    with pytest.raises(BadInput, match="MODEL owner/name cannot be read"):
        modeling.loading.load_encoder("owner/name", ["a", "b"], 8)


def test_a_missing_file_on_a_drive_is_named_whole():
    with pytest.raises(BadInput, match=r"data set C:\\my files\\tickets.csv does not exist"):
        load_task(r"C:\my files\tickets.csv")


def test_a_file_that_a_virus_scanner_holds_is_replaced_a_moment_later(monkeypatch, tmp_path):
    replace, errors = os.replace, [PermissionError(13, "Access is denied")] * 2
    monkeypatch.setattr(
        os, "replace", lambda *p: raising(errors.pop())() if errors else replace(*p)
    )
    monkeypatch.setattr(sys, "platform", "win32")
    assert boundary.write(tmp_path / "a", "new").read_text() == "new"
    errors += [PermissionError(13, "Access is denied")] * 99
    with pytest.raises(PermissionError):
        boundary.write(tmp_path / "a", "newer")


def test_a_minus_stays_a_minus_in_a_redirected_output(monkeypatch, tmp_path):
    with (tmp_path / "log").open("w", encoding="cp1252") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        boundary.steady_output()
        print("−9.0 to 1.8 ≈ é")
    assert (tmp_path / "log").read_text("cp1252") == "-9.0 to 1.8 ? é\n"


def test_an_experiment_has_a_name_that_windows_allows():
    assert command._name_of("owner/name:configuration") == "name-configuration"
    assert command._name_of("tickets .csv") == "tickets"


def test_no_executable_is_read_where_there_is_no_glibc(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", raising(OSError(22, "Invalid argument")))
    monkeypatch.setattr(sys, "platform", "win32")
    hardware.keep_freed_memory()


def test_an_export_replaces_no_folder(monkeypatch, tmp_path):
    monkeypatch.setattr(export, "export_onnx", lambda encoder, folder: None)
    tokenizer = type("", (), {"pad_token_id": 0, "__call__": lambda *_: {"input_ids": [1]}})()
    encoder = SimpleNamespace(model=None, probe=None, tokenizer=tokenizer)
    about = SimpleNamespace(base_model="minilm", method="lora")
    replace = os.replace

    def as_windows(old, new):
        if os.path.isdir(new):
            raise PermissionError(13, "Access is denied", str(old), None, str(new))
        replace(old, new)

    monkeypatch.setattr(os, "replace", as_windows)
    export.export(SimpleNamespace(classifier=encoder, about=about), tmp_path, "onnx")
    assert (tmp_path / "README.md").exists()


def test_a_printed_command_is_read_alike_by_bash_and_by_windows():
    words = [
        "lora(rank=8)",
        "my files/a.csv",
        r"C:\my files\a.csv",
        "a'b",
        "100% & more",
        "a|b",
        "",
    ]
    line = " ".join(map(quoted, words))
    assert "'" not in line.replace("a'b", "")
    printed = subprocess.run(
        ["bash", "-c", f"printf '%s\n' {line}"], capture_output=True, text=True
    )
    assert printed.stdout.splitlines() == shlex.split(line) == words
    windows = [subprocess.list2cmdline([word]) for word in words if " " in word]
    assert windows == [quoted(word) for word in words if " " in word]


def test_a_word_that_double_quotes_would_change_has_single_ones():
    for word in ('a "b"', "a$b", "a`b", "a!", "\\\\server\\a b", "a b\\"):
        assert quoted(word) == shlex.quote(word)
