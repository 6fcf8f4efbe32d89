"""Make the chapters' notebooks: a chapter's .md file holds its text, its code and its outputs.

    python docs/guide/notebooks.py          docs/guide/*.ipynb

A block of Python becomes a code cell, and the block of text just below it that cell's output.
tests/test_guide.py runs every block and compares what it prints. A folded answer stays one cell of
text, so that it folds in the notebook too. Formulas are written as GitHub needs them, and get the
dollar signs that Jupyter reads. Nothing is executed here.
"""

import re
from pathlib import Path

import nbformat
from nbformat import v4

GUIDE = Path(__file__).parent
BLOCK = re.compile(r"```python\n(.*?)\n```(?:\n+```text\n(.*?)```)?", re.DOTALL)
PART = re.compile(rf"<details>.*?</details>|{BLOCK.pattern}", re.DOTALL)
SETUP = """\
# Find the package; install its requirements first: pip install -r requirements.txt
import os
import sys
from pathlib import Path

root = next(p for p in (Path.cwd(), *Path.cwd().parents) if (p / "finetuning.py").exists())
os.chdir(root)
sys.path.insert(0, str(root))"""


def blocks_of(text: str) -> list[tuple[str, str]]:
    """The Python blocks of a chapter, answers included, each with what it prints."""
    return [(code, printed or "") for code, printed in BLOCK.findall(text)]


def with_dollars(text: str) -> str:
    """Formulas in a block of math, or between $` and `$, as $$ ... $$ and $ ... $."""
    text = re.sub(r"```math\n(.*?)\n```", r"$$\1$$", text, flags=re.DOTALL)
    return re.sub(r"\$`(.*?)`\$", r"$\1$", text, flags=re.DOTALL)


def notebook_of(text: str) -> nbformat.NotebookNode:
    """The notebook of a chapter."""
    text = with_dollars(text)
    cells, start, waiting = [v4.new_code_cell(SETUP, execution_count=None)], 0, ""
    for part in PART.finditer(text):
        waiting += text[start : part.start()]
        start = part.end()
        if part[0].startswith("<details>"):
            waiting += part[0]
            continue
        cells.append(v4.new_markdown_cell(waiting.strip()))
        waiting = ""
        outputs = [v4.new_output("stream", name="stdout", text=part[2])] if part[2] else []
        cells.append(v4.new_code_cell(part[1], outputs=outputs))
    cells.append(v4.new_markdown_cell((waiting + text[start:]).strip()))
    cells[0], cells[1] = cells[1], cells[0]  # the title first
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return v4.new_notebook(cells=[c for c in cells if c.source], metadata={"kernelspec": kernel})


if __name__ == "__main__":
    for chapter in sorted(GUIDE.glob("[0-9]*.md")):
        notebook = notebook_of(chapter.read_text(encoding="utf-8"))
        nbformat.write(notebook, chapter.with_suffix(".ipynb"))
        print(chapter.with_suffix(".ipynb"))
