"""The guide's figures: the script draws each that a chapter shows, and no other."""

import re
import runpy
from pathlib import Path

GUIDE = Path(__file__).parents[1] / "docs" / "guide"


def test_the_script_draws_every_figure_that_the_chapters_show(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(GUIDE))
    chapters = [page.read_text(encoding="utf-8") for page in GUIDE.glob("*.md")]
    shown = {name for text in chapters for name in re.findall(r"\]\(figures/([^)\s]+)\)", text)}
    drawn = runpy.run_path(str(GUIDE / "figures.py"))["draw"](tmp_path)
    assert shown == {path.name for path in drawn} == {path.name for path in tmp_path.iterdir()}
    assert shown == {path.name for path in (GUIDE / "figures").iterdir()}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn)
