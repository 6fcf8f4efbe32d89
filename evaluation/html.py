"""The page as one HTML file that a double click opens: figures inside, nothing fetched."""

import base64
from collections.abc import Mapping
from html import escape
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

HEAD = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title} · peft-by-hand</title>
<style>
:root {{ color-scheme: light dark }}
body {{ margin: auto; padding: 1rem; max-width: 70rem; font: 16px/1.5 sans-serif;
  overflow-wrap: break-word }}
img {{ max-width: 100% }}
table {{ display: block; overflow-x: auto; border-collapse: collapse; font-size: .85rem }}
th, td {{ padding: .3rem .4rem; border-bottom: 1px solid #888; vertical-align: top;
  text-align: left }}
td:first-child {{ min-width: 7rem }}
td:last-child:not([style]) {{ min-width: 14rem }}
td[style*=right] {{ white-space: nowrap }}
pre {{ overflow-x: auto }}
summary {{ cursor: pointer; font-weight: 600 }}
</style>
"""


def page(text: str, figures: Mapping[str, Path]) -> str:
    """The page of markdown `text` as HTML, with `figures` inside, by the names that it links to.

    Other people's text in the page is escaped already (markdown.py). No other image is read, and
    the policy in the head keeps the browser from running or fetching anything else.
    """
    reader = MarkdownIt("commonmark").enable("table")
    tokens = reader.parse(text)
    for token in tokens:
        token.children = [_inside(child, figures) for child in token.children or ()]
    title = reader.renderer.renderInlineAsText(tokens[1].children, reader.options, {})
    return HEAD.format(title=escape(title)) + reader.renderer.render(tokens, reader.options, {})


def _inside(token, figures):
    """An image's token with the image's bytes; an image that is not ours becomes its text alone."""
    if token.type != "image":
        return token
    if token.attrs["src"] not in figures:
        return Token("text", "", 0, content=token.content)
    image = base64.b64encode(figures[token.attrs["src"]].read_bytes()).decode()
    token.attrs["src"] = f"data:image/png;base64,{image}"
    return token
