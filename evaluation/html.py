"""The page as one HTML file that a double click opens: figures inside, nothing fetched."""

import base64
from html import escape
from pathlib import Path

from markdown_it import MarkdownIt

HEAD = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark }}
body {{ margin: auto; padding: 1rem; max-width: 70rem; font: 16px/1.5 sans-serif }}
img {{ max-width: 100% }}
table {{ display: block; overflow-x: auto; border-collapse: collapse; font-size: .85rem }}
th, td {{ padding: .3rem .4rem; border-bottom: 1px solid #888; vertical-align: top }}
td:first-child {{ min-width: 7rem }}
pre {{ overflow-x: auto }}
summary {{ cursor: pointer; font-weight: 600 }}
</style>
"""


def page(text: str, folder: Path) -> str:
    """The page of markdown `text` as HTML, with the figures that it links to in `folder`.

    Other people's text in it is escaped already (see markdown.py); the policy in the head keeps
    the browser from running or fetching anything besides.
    """
    reader = MarkdownIt("commonmark").enable("table")
    tokens = reader.parse(text)
    for image in (child for token in tokens for child in token.children or ()):
        if image.type == "image":
            figure = (folder / image.attrs["src"]).read_bytes()
            image.attrs["src"] = f"data:image/png;base64,{base64.b64encode(figure).decode()}"
    title = reader.renderer.renderInlineAsText(tokens[1].children, reader.options, {})
    return HEAD.format(title=escape(title)) + reader.renderer.render(tokens, reader.options, {})
