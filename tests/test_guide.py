"""The guide: its code runs and prints what it says; each chapter has what a lesson needs.

Its notebooks are made from its pages, and its script draws every figure.
"""

import re
import runpy
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from textwrap import dedent

import nbformat
import pytest
from test_docs import long_sentences

ROOT = Path(__file__).parents[1]
GUIDE = ROOT / "docs" / "guide"
CHAPTERS = [path.name for path in GUIDE.glob("[0-9]*.md")]
CHAPTERS.sort(key=lambda name: int(name.partition("-")[0]))
NOTEBOOKS = runpy.run_path(str(GUIDE / "notebooks.py"))
BLOCK, blocks_of = NOTEBOOKS["BLOCK"], NOTEBOOKS["blocks_of"]
QUOTED = re.compile(r"^From \[(\S+)\]\(../../\1\):\n```py\n(.*?)```$", re.DOTALL | re.MULTILINE)
DECIMAL = re.compile(r"(?<![\w.,=])\d[\d,]*\.\d+(?!\w|\.\d)")
# Code, mathematics, links and the like: what is no prose, and what stands in place of it.
NO_PROSE = re.compile(r"```.*?```|^    .*?$|\$\$.*?\$\$|!\[.*?\]\(.*?\)|</?\w+>", re.S | re.M)
ONE_WORD = re.compile(r"\$[^$]*\$|`[^`]*`|(?<=\])\([^)]*\)|arXiv:\S+", re.DOTALL)
PUBLISHED = "87.96 92.24 91.60 0.64"  # by thekaranacharya/llm-fine-tuning, and a difference


def text_of(chapter):
    return (GUIDE / chapter).read_text(encoding="utf-8")


def prose_of(text):
    return ONE_WORD.sub("X", NO_PROSE.sub("\n\n", text))


def stands_in(quotation, source):
    """Whether the lines of a quotation stand one after another in a file, indented or not."""
    quoted, lines = dedent(quotation).splitlines(), source.splitlines()
    parts = (lines[i : i + len(quoted)] for i in range(len(lines) - len(quoted) + 1))
    return any(dedent("\n".join(part)).splitlines() == quoted for part in parts)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_block_of_a_chapter_runs_and_prints_what_stands_below_it(chapter, monkeypatch):
    monkeypatch.chdir(ROOT)
    names = {"__name__": chapter}
    for code, printed in blocks_of(text_of(chapter)):  # in order, in one namespace
        with redirect_stdout(StringIO()) as stdout:
            exec(compile(code, chapter, "exec"), names)
        assert stdout.getvalue() == printed, code


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_has_a_question_a_picture_code_and_one_exercise_with_a_folded_answer(chapter):
    text = text_of(chapter)
    assert re.match(r"# \d+\. .+\n\n\*[^*]+\?\*\n", text)
    assert "](figures/" in text and BLOCK.search(text)
    assert text.count("\n## Exercise\n") == text.count("<details>") == 1
    exercise = " ".join(text.partition("\n## Exercise\n")[2].split())
    assert "Predict" in exercise and "Run it" in exercise and "<details>" in exercise


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_quotation_of_a_chapter_stands_in_its_file(chapter):
    text = text_of(chapter)
    quotations = QUOTED.findall(text)
    assert len(quotations) == text.count("```py\n")  # each names its file
    sources = {file: (ROOT / file).read_text(encoding="utf-8") for file, _ in quotations}
    assert [quote for file, quote in quotations if not stands_in(quote, sources[file])] == []


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_decimals_of_a_chapter_are_in_its_code_or_in_the_files_that_it_links(chapter):
    text = text_of(chapter)
    known = [PUBLISHED, *(code + printed for code, printed in blocks_of(text))]
    known += re.findall(r"```py\n.*?```", text, re.DOTALL)
    for link in re.findall(r"\]\(([^)#\s:]+\.(?:md|csv))", text):
        known.append((GUIDE / link).read_text(encoding="utf-8"))
    numbers = set(DECIMAL.findall(" ".join(known)))
    assert [n for n in DECIMAL.findall(prose_of(text)) if n not in numbers] == []


@pytest.mark.parametrize("chapter", ["README.md", *CHAPTERS])
def test_a_sentence_of_the_guide_has_at_most_25_words(chapter):
    assert long_sentences(prose_of(text_of(chapter))) == []


def test_every_chapter_and_its_notebook_stand_in_the_guides_list():
    links = re.findall(r"\]\(([^)]+\.(?:md|ipynb))\)", text_of("README.md"))
    assert links == [link for name in CHAPTERS for link in (name, name.replace(".md", ".ipynb"))]


def test_the_memory_in_the_figure_is_what_chapter_2_prints(monkeypatch):
    monkeypatch.syspath_prepend(str(GUIDE))
    import figures_of_models

    printed = re.findall(r"^(?:lora|full) +(\d[\d. ]+)$", text_of(CHAPTERS[1]), re.MULTILINE)
    rows = [tuple(map(float, row.split())) for row in printed]
    assert list(figures_of_models.MEMORY.values()) == rows


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapters_notebook_is_the_one_made_from_its_page(chapter):
    stored = nbformat.read(GUIDE / chapter.replace(".md", ".ipynb"), as_version=4)
    nbformat.validate(stored)
    assert stored == NOTEBOOKS["notebook_of"](text_of(chapter))


def test_the_first_cell_finds_the_package_from_the_guides_folder(monkeypatch):
    monkeypatch.chdir(GUIDE)
    monkeypatch.syspath_prepend(str(GUIDE))
    exec(NOTEBOOKS["SETUP"], {})
    assert Path.cwd() == ROOT


def test_the_script_draws_every_figure_that_the_chapters_show(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(GUIDE))
    texts = map(text_of, ["README.md", *CHAPTERS])
    shown = {name for text in texts for name in re.findall(r"\]\(figures/([^)\s]+)\)", text)}
    drawn = runpy.run_path(str(GUIDE / "figures.py"))["draw"](tmp_path)
    assert shown == {path.name for path in drawn} == {path.name for path in tmp_path.iterdir()}
    assert shown == {path.name for path in (GUIDE / "figures").iterdir()}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn)
