"""Where the package meets users, files and the terminal.

Input from outside is read inside `reading`: any error there, foreseen or not, becomes a `BadInput`
of one line. A file is written whole or not at all.
"""

import argparse
import codecs
import errno
import os
import re
import shlex
import shutil
import signal
import sys
import tempfile
import textwrap
import time
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock


def before_libraries() -> None:
    """Make waiting OpenMP threads spin less, unless the user has decided; call it before torch.

    Beside other work, spinning threads take cores, even from the thread that they wait for.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")


class BadInput(ValueError):
    """What a user or a file supplied cannot be used; the text says in one line what to change."""


@contextmanager
def reading(source: str, remedy: str = "", verb: str = "read") -> Iterator[None]:
    """Turn any error in the block into a `BadInput` that names `source`, and what to do.

    A `BadInput` stays as it is: it was raised where more is known.
    """
    try:
        yield
    except (BadInput, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # the tokenizers' panics are no `Exception`
        line = f"{source} cannot be {verb} ({reason(error)})"
        raise BadInput(f"{line}; {remedy}" if remedy else line) from error


def reason(error: BaseException) -> str:
    """An exception's type and message, in one line."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        path = error.filename2 or error.filename  # of two paths, the one not replaced
        text = f"{error.strerror}: {path}" if path else error.strerror
    return short(f"{type(error).__name__}: {text}".strip(": "), 300)


def short(text: str, most: int) -> str:
    """The text in one line of at most `most` letters, cut after a word if there are spaces."""
    line = textwrap.shorten(text, most, placeholder="…")
    return line if line != "…" else f"{text.strip()[: most - 1]}…"


class Parser(argparse.ArgumentParser):
    """The options of a program; arguments that it cannot read raise `BadInput`."""

    def error(self, message: str):
        raise BadInput(f"{message}; see {self.prog} --help")


def some(items: list[str], count: int) -> str:
    """The first items, and how many more there are."""
    more = f" and {len(items) - count} more" if len(items) > count else ""
    return ", ".join(items[:count]) + more


def refuse(error: BadInput, arguments: list[str]) -> int:
    """Print why the input is bad, with --traceback also where; returns the exit status, 2."""
    if "--traceback" in arguments:
        traceback.print_exception(error)
    print("error:", " ".join(str(error).split()), file=sys.stderr)
    return 2


def expanded(path: str | Path) -> Path:
    """The path, with ~ for the user's own folder."""
    return Path(os.path.expanduser(path))


# ---------------------------------------------------------------------------- out


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a path to write to; at the end, the file written there replaces `path`.

    A process killed at any moment leaves the old file or the new one, never half of one. The path
    is in a folder `.<name>.part-<random>`: files that libraries write beside it are deleted too.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{path.name[:100]}.part-", dir=path.parent))
    part = folder / path.name
    try:
        yield part
        for tries_left in reversed(range(20 if sys.platform == "win32" else 1)):
            try:
                os.replace(part, path)
                break
            except PermissionError:  # on Windows, a virus scanner holds new files for a moment
                if not tries_left:
                    raise
                time.sleep(0.1)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def lock(path: str | Path, timeout: float = -1) -> AbstractContextManager:
    """Acquire a lock, which the system releases after a crash. Raises `OSError` without locks."""
    try:
        return FileLock(path, timeout, fallback_to_soft=False).acquire()
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        raise OSError(error.errno, "its file system has no locks", str(path)) from error


def clear(folder: Path) -> None:
    """Delete the unfinished files that killed processes have left in `folder`."""
    for part in folder.glob(".*.part-????????"):
        shutil.rmtree(part, ignore_errors=True)


@contextmanager
def writing(place: str | Path, remedy: str = "choose another folder") -> Iterator[None]:
    """Turn a file system's error in the block into a `BadInput` with `place` and what to do."""
    try:
        yield
    except OSError as error:
        if isinstance(error, ConnectionError):
            raise
        room = "make room, or " * (error.errno in (errno.ENOSPC, errno.EDQUOT))
        raise BadInput(f"{place} cannot be written ({reason(error)}); {room}{remedy}") from error


def sheet(table: Any) -> str:
    """A data frame as CSV. Before letters that are not ASCII stands a mark, which Excel needs."""
    text = table.to_csv(index=False)
    return text if text.isascii() else f"\ufeff{text}"


def quoted(word: str) -> str:
    """A word of a command line that bash, PowerShell and Windows' cmd read alike, if there is one.

    Those have double quotes in common, where nothing within has a meaning of its own.
    """
    if shlex.quote(word) == word:
        return word
    is_plain = not re.search(r'["$`!]|\\\\|\\$', word)
    return f'"{word}"' if is_plain else shlex.quote(word)


def plain_cell(text: str) -> str:
    """A text as a cell of a CSV file that a spreadsheet will not run as a formula.

    A text that begins with = + - @, a tab or a return gets an apostrophe before it, unless it is a
    number (OWASP, CSV injection).
    """
    is_formula = text.startswith(("=", "+", "-", "@", "\t", "\r"))
    text = re.sub("\r(?!\n)", "\n", text)  # a return alone would not be quoted: it ends the row
    try:
        float(text.replace(",", ".", 1))
    except ValueError:
        return f"'{text}" if is_formula else text
    return text


def write(path: str | Path, text: str) -> Path:
    """Write `text` as UTF-8, whole or not at all."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")
    return Path(path)


def interrupt_once() -> None:
    """Make SIGTERM act as Ctrl-C does, and ignore both for ten seconds after either.

    A launcher sends both; the second would interrupt the writing of files after the first.
    """
    deaf = 0.0

    def interrupt(*_):
        nonlocal deaf
        if time.monotonic() > deaf:
            deaf = time.monotonic() + 10
            raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)


def steady_output() -> None:
    """Letters that stdout or stderr cannot show become "?", a minus "-"; a closed one drops all."""
    codecs.register_error("plain", lambda e: ("?-"[e.object[e.start] == "−"], e.start + 1))
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name) or open(os.devnull, "w")  # noqa: SIM115
        if hasattr(stream, "reconfigure"):  # a notebook's has no such method
            stream.reconfigure(errors="plain")
        setattr(sys, name, stream)
