"""The figures of the methods: what each puts into a frozen model, or beside it."""

from drawing import (
    DARK,
    EDGE,
    FROZEN,
    NONE,
    PLUS,
    SMALL,
    TRAINED,
    Part,
    arrow,
    box,
    canvas,
    chain,
    write,
)
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle


def adapter() -> Figure:
    """Left: a block with its two adapters. Right: the inside of one."""
    axes, x = canvas(6.8, "Where is an adapter, and what is inside?", FROZEN, TRAINED, NONE), 2.0
    parts = [Part("x  (N, T, d)", None, 1.0, 0.2)]
    for words in ("attention:\nq, k, v, then o", "feed-forward:\nup, GELU, then down"):
        parts += [Part(words, FROZEN, 1.6, 0.5), Part("adapter", TRAINED, 1.6), PLUS]
        parts += [Part("LayerNorm", TRAINED, 1.6)]
    at = chain(axes, x, 0.65, *parts, EDGE, gap=0.25, up=True)
    for sublayer, plus in ((at[1], at[3]), (at[5], at[7])):
        y = sublayer - 0.38
        arrow(axes, (x, y), (0.75, y), (0.75, plus), (x - 0.15, plus))
        write(axes, 0.6, (y + plus) / 2, "residual", fontsize=SMALL, rotation=90)
    left, low, high = 4.0, 0.7, 5.7
    axes.add_patch(Rectangle((left, low), 3.8, high - low, fc="none", ec=DARK, ls=":"))
    axes.plot([left, 2.8, 2.8, left], [high, at[6] + 0.18, at[6] - 0.18, low], color=DARK, ls=":")
    x, gap = 5.6, Part("", None, 0, 0.6)
    inner = [Part("h  (N, T, d)", None, 1, 0.2), gap, Part("GELU", NONE, 0.55, 0.3), gap, PLUS]
    inner += [Part("$h + W_{up}\\,\\mathrm{GELU}(W_{down}\\,h + b_{down}) + b_{up}$", None, 1, 0.3)]
    at = chain(axes, x, 1.2, *inner, gap=0.36, up=True)
    for y, words, below in ((at[1], "$W_{down}$  (m, d)", 2.0), (at[3], "$W_{up}$  (d, m)", 1.3)):
        above = 3.3 - below
        wide = [(-below, -0.3), (below, -0.3), (above, 0.3), (-above, 0.3)]
        corners = [(x + side / 2, y + to) for side, to in wide]
        axes.add_patch(Polygon(corners, fc=TRAINED, ec=DARK, zorder=2))
        write(axes, x, y, words)
    write(axes, 5.98, at[2], "(N, T, m)", ha="left")
    y = at[0] + 0.2
    arrow(axes, (x, y), (7.1, y), (7.1, at[4]), (x + 0.15, at[4]))
    write(axes, 7.3, at[2], "inner residual", fontsize=SMALL, rotation=90)
    write(axes, 5.9, 0.9, "starts close to the identity: h passes through", fontsize=SMALL)
    return axes.figure


def lora() -> Figure:
    """A frozen matrix, and the two thin ones that learn beside it."""
    axes = canvas(3.8, "LoRA: what learns beside a frozen matrix?", FROZEN, TRAINED, NONE)
    high, low = 2.75, 1.65
    frozen = Part("$W_0$  ($d_{out}$, $d_{in}$),   b  ($d_{out}$)", FROZEN, 3.7, 0.6)
    ends = Part("x\n(N, T, $d_{in}$)", None, 0.9), Part("h\n(N, T, $d_{out}$)", None, 0.9)
    at = chain(axes, 0.15, high, ends[0], frozen, PLUS, ends[1], gap=0.6)
    parts = Part("A  (r, $d_{in}$)", TRAINED), Part("B  ($d_{out}$, r)", TRAINED, 1.1)
    scale = Part("× α / r", NONE, 0.7)
    below = chain(axes, 1.65, low, *parts, scale, gap=0.75)
    arrow(axes, (1.3, high), (1.3, low), (1.65, low))
    arrow(axes, (below[2] + 0.35, low), (at[2], low), (at[2], high - 0.15))
    write(axes, (below[0] + below[1]) / 2 - 0.03, low + 0.14, "(N, T, r)", fontsize=SMALL)
    write(axes, below[0], low - 0.32, "starts random", fontsize=SMALL)
    write(axes, below[1], low - 0.32, "starts at 0", fontsize=SMALL)
    write(axes, 4, 0.75, "$h = W_0\\,x + b + (\\alpha / r)\\,B\\,A\\,x$", fontsize=13)
    return axes.figure


def low_rank() -> Figure:
    """A (d, d) update as the product of (d, r) and (r, d), drawn to scale."""
    d, r, side, y = 384, 16, 2.3, 2.4  # MiniLM's width, LORA_RANK; inches
    axes, thin = canvas(4.2, "How small is an update of rank r?", TRAINED, NONE), side * r / d
    words = (
        f"scaled update of $W_0$\n(d, d), rank r at most\n\n{d * d:,} numbers,\nmade from B and A"
    )
    box(axes, 1.45, y, Part(words, NONE, side, side))
    box(axes, 4.35, y, Part("", TRAINED, thin, side))
    box(axes, 6.4, y, Part("", TRAINED, side, thin))
    write(axes, 3.4, y, "=   α / r   ×", fontsize=11)
    write(axes, 4.85, y, "×", fontsize=11)
    write(axes, 4.35, y - side / 2 - 0.3, f"B  (d, r)\n{d * r:,} numbers")
    write(axes, 6.4, y - 0.35, f"A  (r, d)\n{r * d:,} numbers")
    note = f"To scale: d = {d}, r = {r}.  2dr = {2 * d * r:,}, {200 * r / d:.1f} % of d²."
    write(axes, 7.85, 0.2, note, fontsize=SMALL, ha="right")
    return axes.figure


def families() -> Figure:
    """The methods by what they do to a frozen classifier: a tree with four branches."""
    axes = canvas(3.9, "What does each family do to the pretrained model?", FROZEN, TRAINED)
    box(axes, 0.85, 1.98, Part("pretrained\nclassifier,\nfrozen", FROZEN, 1.3, 0.9))
    rows = (
        ("selected", "some or all weights learn", ("head-only", "BitFit", "LN-tuning", "full")),
        ("added", "new layers in between", ("adapters", "LoReFT")),
        ("re-parametrised", "$W_0$ gets a small update", ("LoRA", "DoRA", "VeRA")),
        ("rescaled", "activations times a vector", ("(IA)$^3$",)),
    )
    for i, (family, what, names) in enumerate(rows):
        y = 3.1 - 0.75 * i
        arrow(axes, (1.5, 1.98), (1.75, 1.98), (1.75, y), (2.05, y))
        write(axes, 2.12, y + 0.1, family, ha="left", fontsize=11, fontweight="bold")
        write(axes, 2.12, y - 0.13, what, ha="left", fontsize=SMALL)
        for k, name in enumerate(names):
            box(axes, 4.55 + 0.94 * k, y, Part(name, TRAINED, 0.88))
    note = "re-parametrised and rescaled: can be merged into the weights afterwards"
    write(axes, 7.85, 0.2, note, fontsize=SMALL, ha="right")
    return axes.figure


def dora() -> Figure:
    """LoRA changes the directions of the rows of a matrix, a vector their lengths."""
    axes = canvas(2.9, "DoRA: direction and length learn apart", FROZEN, TRAINED, NONE)
    frozen = Part("$W_0$\n($d_{out}$, $d_{in}$)", FROZEN, 1.3, 0.6)
    divide = Part("each row divided\nby its length", NONE, 1.5, 0.6)
    length = Part("× m  ($d_{out}$)", TRAINED, 1.2, 0.6)
    at = chain(axes, 0.4, 1.85, frozen, PLUS, divide, length, Part("W", None, 0.4), gap=0.5)
    update = Part("α / r × B A", TRAINED, 1.3, 0.4)
    box(axes, at[0], 1.1, update)
    arrow(axes, (at[0] + 0.65, 1.1), (at[1], 1.1), (at[1], 1.7))
    write(axes, at[2], 1.38, "the direction", fontsize=SMALL)
    write(axes, at[3], 1.38, "the length, starts at $\\|W_0\\|$", fontsize=SMALL)
    write(axes, 4, 0.7, "$h = m \\circ (V\\,x)\\,/\\,\\|V\\| + b$      $V = W_0 + (α / r)\\,B A$",
          fontsize=12)  # fmt: skip
    return axes.figure


def vera() -> Figure:
    """LoRA with random, frozen A and B that all matrices share, and two learnt vectors."""
    axes = canvas(3.4, "VeRA: two vectors learn beside random matrices", FROZEN, TRAINED, NONE)
    high, low = 2.5, 1.5
    frozen = Part("$W_0$  ($d_{out}$, $d_{in}$)", FROZEN, 4.86, 0.5)
    at = chain(axes, 0.3, high, Part("x", None, 0.3), frozen, PLUS, Part("h", None, 0.3), gap=0.6)
    parts = Part("A  (r, $d_{in}$)", FROZEN, 1.1, 0.5), Part("× d  (r)", TRAINED, 0.8, 0.5)
    parts += Part("B  ($d_{out}$, r)", FROZEN, 1.1, 0.5), Part("× b  ($d_{out}$)", TRAINED, 1, 0.5)
    below = chain(axes, 1.2, low, *parts, gap=0.286)
    arrow(axes, (0.9, high), (0.9, low), (1.2, low))
    arrow(axes, (below[3] + 0.5, low), (at[2], low), (at[2], high - 0.15))
    for x, words in zip(below, ("random", "starts at 0.1", "random", "starts at 0"), strict=True):
        write(axes, x, low - 0.38, words, fontsize=SMALL)
    note = "The whole model has one A and one B."
    write(axes, 7.85, 0.2, note, fontsize=SMALL, ha="right")
    write(axes, 4, 0.7, "$h = W_0\\,x + b \\circ B\\,(d \\circ A\\,x)$", fontsize=12)
    return axes.figure


def ia3() -> Figure:
    """Three vectors a block rescale keys, values and inner activations."""
    axes = canvas(3.1, "(IA)³: three vectors rescale activations", FROZEN, TRAINED, NONE)
    x = Part("x", None, 0.3)
    for y, name in ((2.2, "k"), (1.65, "v")):
        parts = Part(f"{name}  (d, d)", FROZEN, 1.0), Part(f"× $l_{name}$  (d)", TRAINED, 1.0)
        at = chain(axes, 0.3, y, x, *parts, gap=0.45)
        arrow(axes, (at[2] + 0.5, y), (4.35, y))
    box(axes, 5.05, 1.925, Part("attention,\nthen o", FROZEN, 1.4, 0.85))
    write(axes, 6.0, 1.925, "(q is unchanged)", fontsize=SMALL, ha="left")
    parts = Part("up  (f, d)", FROZEN), Part("GELU", NONE, 0.8), Part("× $l_{ff}$  (f)", TRAINED)
    chain(axes, 0.3, 0.85, x, *parts, Part("down  (d, f)", FROZEN, 1.2), EDGE, gap=0.45)
    write(axes, 7.85, 0.2, "All start at 1.", fontsize=SMALL, ha="right")
    return axes.figure


def loreft() -> Figure:
    """The hidden states of the first and last tokens are edited between two blocks."""
    axes = canvas(3.5, "LoReFT: a few tokens change in a few directions", TRAINED, NONE)
    side = 0.46
    for y, words in ((2.6, "after block k"), (1.0, "into block k + 1")):
        write(axes, 1.3, y, words, ha="right")
        for token in range(12):
            words = "h'" if y < 2 and not 4 <= token < 8 else "h"
            box(axes, 1.8 + side * token, y, Part(words, NONE, side - 0.06, 0.36))
    for token in range(12):
        arrow(axes, (1.8 + side * token, 2.42), (1.8 + side * token, 1.18))
    for first in (0, 8):
        middle = 1.8 + side * (first + 1.5)
        box(axes, middle, 1.8, Part("h + $R^T$ (W h + b − R h)", TRAINED, 2.02, 0.4))
    note = "The edit sets the r coordinates R h to W h + b, and keeps all others."
    write(axes, 4.3, 0.55, note, fontsize=SMALL)
    return axes.figure
