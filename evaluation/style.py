"""The look of every figure: the same colours for the same method, and the frame around the axes."""

import math
import textwrap
import warnings
from collections import namedtuple

import matplotlib

from .statistics import NAMES

matplotlib.use("Agg")  # figures go to files, on machines without a screen too
from matplotlib import pyplot as plt

Look = namedtuple("Look", "name colour hatch line marker")

# Okabe and Ito's colours survive colour blindness; hatches, lines and markers survive grey print.
LOOKS = {
    "head": ("#E69F00", "", "-", "o"),
    "adapter": ("#0072B2", "//", "--", "s"),
    "lora": ("#009E73", "..", "-.", "^"),
    "bitfit": ("#CC79A7", "--", (0, (5, 1)), "v"),
    "full": ("#999999", "xx", ":", "D"),
    "tfidf": ("#56B4E9", "\\\\", (0, (1, 1)), "P"),
}
SMALL = 8.5  # points: what stands around the axes
LINE = 0.165  # inches: a line of that size


def look(method: str) -> Look:
    """A method's name and look; one that is not in `LOOKS` goes by its own name, in black."""
    return Look(NAMES.get(method, method), *LOOKS.get(method, ("#000000", "", "-", ".")))


def set_style() -> None:
    """What every figure has in common."""
    warnings.filterwarnings("ignore", "Glyph .* missing from font")  # an emoji becomes a box
    plt.rcParams.update({"font.size": 11, "axes.spines.top": False, "axes.spines.right": False})


def save(figure, path, title, subtitle, note="", handles=()):
    """Frame a figure and write it whole or not at all; returns `path`.

    From top to bottom: the title, what it was measured on, the axes, a legend of `handles`, and
    a note that says what the marks mean. Lines too long for the figure's width are broken.
    """
    width, height = figure.get_size_inches()
    heading = textwrap.wrap(title, int(width / 0.112))
    below = [part for line in subtitle.splitlines() for part in _wrap(line, width)]
    notes = [part for line in note.splitlines() for part in _wrap(line, width)]
    rows = _legend(figure, handles, width, 0.06 + LINE * len(notes))
    top = 0.12 + 0.23 * len(heading) + 0.05
    figure.text(
        0.02, 1 - 0.12 / height, "\n".join(heading), va="top", fontsize=13, fontweight="bold"
    )
    grey = {"va": "top", "fontsize": SMALL, "color": "#444444", "parse_math": False}
    figure.text(0.02, 1 - top / height, "\n".join(below), **grey)
    foot = 0.06 + LINE * len(notes)
    figure.text(0.02, foot / height, "\n".join(notes), **grey)
    top += LINE * len(below) + 0.05
    low = foot + 0.235 * rows + 0.06
    rect = (0.01, low / height, 0.98, 1 - (top + low) / height)  # left, bottom, width, height
    figure.set_layout_engine("constrained", rect=rect)
    unfinished = path.with_name(path.name + ".part")
    figure.savefig(unfinished, format="png", dpi=150)
    plt.close(figure)
    unfinished.replace(path)
    return path


def _wrap(line, width):
    return textwrap.wrap(line, int(width / 0.066)) or [""]


def _legend(figure, handles, width, foot):
    """Draw the legend `foot` inches above the lower edge; returns its number of rows."""
    if not handles:
        return 0
    rows = math.ceil(len(handles) / max(2, int(width / 1.5)))
    figure.legend(
        handles=handles,
        loc="lower center",
        bbox_to_anchor=(0.5, foot / figure.get_figheight()),
        borderaxespad=0.1,
        ncols=math.ceil(len(handles) / rows),
        frameon=False,
        fontsize=9.5,
    )
    return rows


def line_handle(method, **more):
    """A method's entry in a legend of lines."""
    its = look(method)
    return plt.Line2D(
        [], [], color=its.colour, ls=its.line, marker=its.marker, label=its.name, **more
    )


def ring_handle(label, **more):
    """A legend's entry for the ring around a chosen point."""
    ring = {"color": "black", "marker": "o", "markersize": 10, "fillstyle": "none", "ls": ""}
    return plt.Line2D([], [], label=label, **(ring | more))
