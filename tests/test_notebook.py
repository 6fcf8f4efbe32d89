"""The notebook of the quick start: valid, without outputs; its tables are those of the files."""

import ast
import re

import nbformat
from test_docs import RESULTS, ROOT, text_of

from evaluation import plots

NOTEBOOK = nbformat.read(ROOT / "docs" / "guide" / "quick_start.ipynb", as_version=4)
CODE = {cell["id"]: cell["source"] for cell in NOTEBOOK.cells if cell["cell_type"] == "code"}


def test_it_is_valid_and_its_cells_parse_and_hold_no_outputs():
    nbformat.validate(NOTEBOOK)
    for cell in NOTEBOOK.cells:
        if cell["cell_type"] == "code":
            ast.parse(cell["source"])
            assert cell["outputs"] == [] and cell["execution_count"] is None


def test_it_clones_what_the_readme_clones():
    address = re.search(r"git clone --depth 1 (\S+)", text_of("README.md"))[1]
    assert f'ADDRESS = "{address}"' in CODE["setup"]


def test_its_tables_and_figures_are_those_of_an_experiment(tmp_path, monkeypatch):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "quick").symlink_to(RESULTS / "few-imdb")
    monkeypatch.chdir(tmp_path)
    names = {}
    for cell in ("runs", "contrasts"):
        before, _, last = CODE[cell].rpartition("\n")
        exec(f"from pathlib import Path\n{before}", names)
        names[cell] = eval(last, names)
    assert len(names["runs"]) == 30 and names["runs"]["test_accuracy"].between(0, 1).all()
    assert list(names["contrasts"]["method_b"]) == ["probe", "full", "lora"]
    assert set(names["contrasts"]["verdict"]) == {"undecided"}
    assert set(re.findall(r'"(\w+\.png)"', CODE["figures"])) <= set(plots.FILES)
