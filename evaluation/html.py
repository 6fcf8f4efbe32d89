"""The page as one HTML file that a double click opens: figures inside, nothing fetched."""

import base64
from html import escape
from pathlib import Path
from urllib.parse import unquote

from markdown_it import MarkdownIt

STYLE = """
:root { color-scheme: light dark; --text: #1d1d1f; --back: #fff; --line: #d5d5da; --soft: #f5f5f7 }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e6ea; --back: #16171a; --line: #3a3b40; --soft: #212226 }
}
body { margin: 0 auto; padding: 1rem 1.2rem 4rem; max-width: 62rem; color: var(--text);
  background: var(--back); font: 16px/1.55 system-ui, sans-serif; overflow-wrap: break-word }
h1, h2 { line-height: 1.25 }
h2 { margin-top: 2.5rem; padding-bottom: .3rem; border-bottom: 1px solid var(--line) }
img { display: block; max-width: 100%; height: auto; margin: 1.2rem 0; background: #fff;
  border-radius: 4px }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-size: .86rem; font-variant-numeric: tabular-nums }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top }
th { background: var(--soft); vertical-align: bottom }
td:first-child, td[style*=right] { white-space: nowrap }
td:last-child:not([style*=right]) { min-width: 12rem }
details { margin: 1rem 0; padding: .4rem .8rem; border: 1px solid var(--line); border-radius: 4px }
summary { cursor: pointer; font-weight: 600 }
pre { padding: .8rem; overflow-x: auto; background: var(--soft); border-radius: 4px }
code { font-size: .86em }
"""
HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
"""


def page(text: str, folder: Path) -> str:
    """The page of markdown `text` as HTML, with the figures that it links to in `folder`.

    Other people's text in it is escaped already (see markdown.py); the policy in the head keeps
    the browser from running or fetching anything besides.
    """
    reader = MarkdownIt("commonmark").enable("table")
    reader.add_render_rule("table_open", lambda *_: '<div class="wide"><table>\n')
    reader.add_render_rule("table_close", lambda *_: "</table></div>\n")
    tokens = reader.parse(text)
    for image in (child for token in tokens for child in token.children or ()):
        if image.type == "image":
            figure = (folder / unquote(image.attrs["src"])).read_bytes()
            image.attrs["src"] = f"data:image/png;base64,{base64.b64encode(figure).decode()}"
            image.attrs["width"] = int.from_bytes(figure[16:20]) * 96 // 150  # dots an inch
    title = reader.renderer.renderInlineAsText(tokens[1].children, reader.options, {})
    head = HEAD.format(title=escape(title), style=STYLE)
    return head + reader.renderer.render(tokens, reader.options, {}) + "</body>\n</html>\n"
