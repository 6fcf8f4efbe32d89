"""The chapters' notebooks: made from their .md files, whose code and outputs test_guide checks."""

import runpy
from pathlib import Path

import nbformat
import pytest

GUIDE = Path(__file__).parents[1] / "docs" / "guide"
NOTEBOOKS = runpy.run_path(str(GUIDE / "notebooks.py"))
BLOCK, blocks_of, notebook_of = (NOTEBOOKS[name] for name in ("BLOCK", "blocks_of", "notebook_of"))
CHAPTERS = sorted(path.stem for path in GUIDE.glob("[0-9]*.md"))


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapters_notebook_is_the_one_made_from_its_page(chapter):
    stored = nbformat.read(GUIDE / f"{chapter}.ipynb", as_version=4)
    nbformat.validate(stored)
    assert stored == notebook_of((GUIDE / f"{chapter}.md").read_text(encoding="utf-8"))


def test_formulas_have_the_dollar_signs_that_jupyter_reads():
    with_dollars = NOTEBOOKS["with_dollars"]
    assert with_dollars("so $`r\\,d`$ is\n\n```math\nh = W\\,x\n```\n") == (
        "so $r\\,d$ is\n\n$$h = W\\,x$$\n"
    )


def test_the_first_cell_finds_the_package_from_the_guides_folder(monkeypatch):
    monkeypatch.chdir(GUIDE)
    monkeypatch.syspath_prepend(str(GUIDE))
    exec(NOTEBOOKS["SETUP"], {})
    assert Path.cwd() == GUIDE.parents[1]
