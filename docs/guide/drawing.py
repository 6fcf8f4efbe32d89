"""The parts of the guide's figures: boxes, arrows, chains of both.

What is frozen is grey, what is trained is green; a white box holds no parameters. Coordinates are
inches from the lower left corner, so a text of so many points fits into its box or not, whatever
the size of the figure. N, T, d, C, r and m are those of modeling/base.py.
"""

from collections import namedtuple

import matplotlib

matplotlib.use("Agg")  # figures go to files, on machines without a screen too
from matplotlib import pyplot as plt
from matplotlib.patches import Circle, Rectangle

FROZEN, TRAINED, NONE, DARK = "#BBBBBB", "#009E73", "#FFFFFF", "#222222"
TRAINING, VALIDATION, TEST = "#DDDDDD", "#56B4E9", "#E69F00"
MEANING = {FROZEN: "frozen", TRAINED: "trained", NONE: "no parameters"}
MEANING |= {TRAINING: "training", VALIDATION: "validation", TEST: "test"}
WIDTH = 8  # of all figures
SMALL = 9  # points

# A box of a chain. `inside` are widths of what learns in it; without a colour it is text alone.
Part = namedtuple("Part", "words colour width height inside", defaults=(FROZEN, 1.0, 0.36, ()))
EDGE, PLUS = Part("", None, 0, 0), Part("+", NONE, 0.3, 0.3)


def canvas(height: float, title: str, *colours: str) -> plt.Axes:
    """Axes over a whole figure, in inches, with a title and below a key of the colours."""
    axes = plt.figure(figsize=(WIDTH, height)).add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(0, height))
    axes.axis("off")
    write(axes, 0.15, height - 0.25, title, fontsize=13, ha="left", fontweight="bold")
    for i, colour in enumerate(colours):
        box(axes, 0.27 + i, 0.2, Part("", colour, 0.24, 0.16))
        write(axes, 0.46 + i, 0.2, MEANING[colour], fontsize=SMALL, ha="left")
    return axes


def write(axes, x: float, y: float, words: str, **more) -> None:
    """Text around (x, y)."""
    axes.text(x, y, words, **({"ha": "center", "va": "center", "zorder": 3} | more))


def box(axes, x: float, y: float, part: Part) -> None:
    """A part whose centre is (x, y)."""
    words, colour, width, height, inside = part
    look = {"fc": colour, "ec": DARK, "zorder": 2}
    if words in ("+", "f"):
        axes.add_patch(Circle((x, y), width / 2, **look))
    elif colour:
        axes.add_patch(Rectangle((x - width / 2, y - height / 2), width, height, **look))
    taken = sum(inside) + 0.04 * (len(inside) + 1) if inside else 0
    write(axes, x - taken / 2, y, words)
    left = x + width / 2 - taken
    for wide in inside:
        box(axes, left + wide / 2, y, Part("", TRAINED, wide, 0.2))
        left += wide + 0.04


def arrow(axes, *points: tuple[float, float], style: str = "-") -> None:
    """From the first point through the others to the last."""
    axes.plot(*zip(*points[:-1], strict=True), color=DARK, lw=1.2, ls=style, zorder=1)
    look = {"arrowstyle": "-|>", "color": DARK, "lw": 1.2, "ls": style, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", points[-1], points[-2], arrowprops=look | {"mutation_scale": 11}, zorder=1)


def chain(axes, x: float, y: float, *parts: Part, gap=0.3, up=False) -> list[float]:
    """Parts with arrows between them, to the right of (x, y) or upwards; where each is centred."""
    start, centres = (y if up else x), []
    for i, part in enumerate(parts):
        size = part.height if up else part.width
        centres.append(start + size / 2)
        box(axes, *((x, centres[-1]) if up else (centres[-1], y)), part)
        if i:
            ends = start - gap, start
            arrow(axes, *((x, end) if up else (end, y) for end in ends))
        start += size + gap
    return centres


def gradients(axes, start: float, end: float, y: float) -> None:
    """The backward pass, from x = start to x = end, where it stops."""
    arrow(axes, (start, y), (end, y), style="--")
    axes.plot([end, end], [y - 0.1, y + 0.1], color=DARK, lw=2.5)
    write(axes, (start + end) / 2, y - 0.15, "gradients", fontsize=SMALL)
