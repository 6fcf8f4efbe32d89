"""The guide: its code runs and prints what it says, its quotations stand in the files named."""

import re
from contextlib import redirect_stdout
from io import StringIO
from textwrap import dedent

import jupytext
import pytest
from sybil import Document
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser
from test_docs import ROOT, text_of, without_source

GUIDE = ROOT / "docs" / "guide"
CHAPTERS = [path.name for path in GUIDE.glob("[0-9]*.md")]
CHAPTERS.sort(key=lambda name: int(name.partition("-")[0]))
BLOCK = re.compile(r"^[ \t]*```python\n(.*?)\n[ \t]*```$", re.DOTALL | re.MULTILINE)
PRINTED = re.compile(r"\n+```text\n(.*?)```", re.DOTALL)
QUOTED = re.compile(r"^From \[(\S+)\]\(../../\1\):\n```py\n(.*?)```$", re.DOTALL | re.MULTILINE)


def run(example):
    """Run a block in its chapter's namespace: what it prints is the ```text just below it."""
    with redirect_stdout(StringIO()) as stdout:
        PythonEvaluator()(example)
    below = PRINTED.match(example.document.text, example.end)
    expected = below[1] if below else ""
    assert stdout.getvalue() == expected, f"{example.path}, line {example.line}"


def stands_in(quotation, source):
    """Whether the lines of a quotation stand one after another in a file, indented or not."""
    quoted, lines = dedent(quotation).splitlines(), source.splitlines()
    parts = (lines[i : i + len(quoted)] for i in range(len(lines) - len(quoted) + 1))
    return any(dedent("\n".join(part)).splitlines() == quoted for part in parts)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_block_of_a_chapter_runs_and_prints_what_stands_below_it(chapter, monkeypatch):
    monkeypatch.chdir(ROOT)
    document = Document.parse(str(GUIDE / chapter), CodeBlockParser("python", run))
    for example in document.examples():  # in order, in one namespace
        example.evaluate()


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_quotation_of_a_chapter_stands_in_its_file(chapter):
    text = text_of(GUIDE / chapter)
    quotations = QUOTED.findall(text)
    assert len(quotations) == text.count("```py\n")  # each names its file
    wrong = [quote for file, quote in quotations if not stands_in(quote, text_of(file))]
    assert wrong == []


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_decimals_of_a_chapter_are_printed_by_it_or_stand_in_the_files_that_it_links(chapter):
    text = text_of(GUIDE / chapter)
    code = "\n".join(re.findall(r"^```\w+\n.*?^```", text, re.DOTALL | re.MULTILINE))
    solutions = re.compile(r"<details>.*?</details>", re.DOTALL)  # they compute their own
    assert without_source(GUIDE / chapter, solutions.sub("", text), code) == []


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_is_a_notebook_with_a_code_cell_for_each_block(chapter):
    cells = jupytext.read(GUIDE / chapter).cells
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    assert code == BLOCK.findall(text_of(GUIDE / chapter))


def test_every_chapter_stands_in_the_guides_list():
    listed = re.findall(r"\]\(([^)]+\.md)\)", text_of("docs/guide/README.md"))
    assert listed == CHAPTERS
