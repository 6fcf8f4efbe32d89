"""Draw the figures that explain: what is frozen is grey, what is trained is green.

    python docs/guide/figures.py            docs/guide/figures/*.png, in a few seconds

A white box holds no parameters. Coordinates are inches from the lower left corner, so a text of
so many points fits into its box or not, whatever the size of the figure. N, T, d, C, r and m are
those of modeling/base.py.
"""

from collections import namedtuple
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # figures go to files, on machines without a screen too
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Polygon, Rectangle

FOLDER = Path(__file__).parent
FROZEN, TRAINED, NONE, DARK = "#BBBBBB", "#009E73", "#FFFFFF", "#222222"
MEANING = {FROZEN: "frozen", TRAINED: "trained", NONE: "no parameters"}
WIDTH = 8  # of all figures
SMALL = 9  # points
LORA, ADAPTERS = [0.1] * 4, [0.2, 0.05, 0.2, 0.05]  # widths of what learns, inside a block's box

# A box of a chain. `inside` are widths of what learns in it; without a colour it is text alone.
Part = namedtuple("Part", "words colour width height inside", defaults=(FROZEN, 1.0, 0.36, ()))
EDGE, PLUS = Part("", None, 0, 0), Part("+", NONE, 0.3, 0.3)


def draw(folder: Path = FOLDER / "figures") -> list[Path]:
    """Draw every figure into `folder`; the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    small = {"dpi": 130, "metadata": {"Software": None}, "pil_kwargs": {"optimize": True}}
    with plt.rc_context({"font.size": 10, "text.color": DARK}):
        for figure in FIGURES:
            drawn = figure()
            drawn.savefig(folder / f"{figure.__name__}.png", **small)
            plt.close(drawn)
    return [folder / f"{figure.__name__}.png" for figure in FIGURES]


# ---------------------------------------------------------------------------- parts of a figure


def canvas(height: float, title: str, *colours: str) -> plt.Axes:
    """Axes over a whole figure, in inches, with a title and below a key of the colours."""
    axes = plt.figure(figsize=(WIDTH, height)).add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(0, height))
    axes.axis("off")
    write(axes, 0.15, height - 0.25, title, fontsize=13, ha="left", fontweight="bold")
    for i, colour in enumerate(colours):
        box(axes, 0.27 + 0.9 * i, 0.2, Part("", colour, 0.24, 0.16))
        write(axes, 0.46 + 0.9 * i, 0.2, MEANING[colour], fontsize=SMALL, ha="left")
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


# ---------------------------------------------------------------------------- the figures


def frozen_model() -> Figure:
    """The classifier four times, from token ids up to logits, with what each method trains."""
    axes = canvas(6.3, "What does each method train?", FROZEN, TRAINED)
    d, r, m, whole = 384, 16, 64, 22_713_986  # MiniLM's
    head, lora, adapters = d * d + d + 2 * d + 2, 6 * 4 * r * 2 * d, 6 * 2 * (2 * m * d + m + d)
    norms = 6 * 2 * 2 * d
    shares = {"head": head / whole, "full": 1, "lora": (head + lora) / (whole + lora)}
    shares["adapter"] = (head + adapters + norms) / (whole + adapters)
    columns = (
        ("head", "head-only", "the head alone", ()),
        ("adapter", "adapters", "in each block 2 adapters\nand 2 LayerNorms; the head", ADAPTERS),
        ("lora", "LoRA", "in each block A and B\nat q, k, v, o; the head", LORA),
        ("full", "full fine-tuning", "everything", ()),
    )
    for i, (name, label, what, inside) in enumerate(columns):
        x, rest = 2.1 + 1.66 * i, TRAINED if name == "full" else FROZEN
        blocks = [Part(f"block {k}", rest, 1.4, 0.32, inside) for k in range(6)]
        ends = Part("embeddings", rest, 1.4, 0.32), Part("head", TRAINED, 1.4, 0.32)
        centres = chain(axes, x, 1.2, EDGE, ends[0], *blocks, ends[1], EDGE, gap=0.18, up=True)
        write(axes, x, centres[-1] + 0.2, label, fontsize=11, fontweight="bold")
        what += f"\n{round(100 * shares[name], 2):g} % of all parameters"
        write(axes, x, 1.1, what, fontsize=8, va="top", linespacing=1.3)
    gaps = [(low + high) / 2 for low, high in zip(centres, centres[1:], strict=False)]
    labels = "token ids\n(N, T)", "hidden states\n(N, T, d)", "pooled features\n(N, d)"
    for y, words in zip((1.25, gaps[4], gaps[7]), labels, strict=True):
        write(axes, 0.65, y, words, fontsize=SMALL)
    write(axes, 0.65, centres[-1], "logits\n(N, C)", fontsize=SMALL)
    write(axes, 7.85, 0.2, "MiniLM, BERT's own head", fontsize=8, ha="right")
    return axes.figure


def block() -> Figure:
    """A block of BERT: two sublayers with their linear layers, residual sums and LayerNorms."""
    axes = canvas(5.8, "What is inside a transformer block?", FROZEN, NONE)
    high, low, norm = 3.8, 1.5, Part("LayerNorm", FROZEN, 1.0)
    scores = Part("softmax($q\\,k^T / \\sqrt{d_h}$) v\nfor each\nattention head", NONE, 1.55, 1.16)
    first, last = Part("k  (d, d)"), Part("o  (d, d)")
    begin = Part("x\n(N, T, d)", None, 0.75)
    at = chain(axes, 0.1, high, begin, first, scores, last, PLUS, norm, gap=0.36)
    for y, name in ((high + 0.42, "q"), (high - 0.42, "v")):
        box(axes, at[1], y, Part(f"{name}  (d, d)"))
        arrow(axes, (1.02, high), (1.02, y), (at[1] - 0.5, y))
        arrow(axes, (at[1] + 0.5, y), (at[2] - 0.775, y))
    parts = Part("up  (f, d)"), Part("GELU", NONE, 1.55), Part("down  (d, f)"), PLUS, norm
    chain(axes, 0.85, low, EDGE, *parts, EDGE, gap=0.36)
    for y, up in ((high, 0.95), (low, 0.5)):
        arrow(axes, (1.02, y), (1.02, y + up), (at[4], y + up), (at[4], y + 0.15))
        write(axes, at[2], y + up + 0.12, "residual: the input is added", fontsize=SMALL)
    turn = [(at[5] + 0.5, high), (7.75, high), (7.75, 2.5), (0.5, 2.5), (0.5, low), (1.21, low)]
    arrow(axes, *turn)
    for i, y, path in (
        (1, high - 0.78, "attention.self.query,\n.key, .value"),
        (3, high - 0.38, "attention.output.\ndense"),
        (5, high - 0.38, "attention.output.\nLayerNorm"),
        (1, low - 0.3, "intermediate.dense"),
        (3, low - 0.3, "output.dense"),
        (5, low - 0.3, "output.LayerNorm"),
    ):
        write(axes, at[i], y, path, fontsize=8, style="italic")
    note = "LoRA: beside q, k, v, o, up or down. An adapter: after o and after down. Here f = 4d.\n"
    note += "$d_h$: an attention head's width. In italics: BERT's paths, modeling/architectures.py."
    write(axes, 0.15, 0.7, note, fontsize=SMALL, ha="left")
    return axes.figure


def head_only() -> Figure:
    """A frozen encoder that runs once for each review, and a head that reads what it made."""
    axes, y = canvas(3.4, "Head-only: what runs once, what learns?", FROZEN, TRAINED, NONE), 2.2
    encoder = Part("encoder:\nembeddings\nand all blocks", FROZEN, 1.3, 0.9)
    kept = Part("features\n(N, d), kept", NONE, 1.0, 0.6)
    head = [Part("dense\n(d, d)", TRAINED, 0.8, 0.6), Part("f", NONE, 0.3)]
    head += [Part("classifier\n(C, d)", TRAINED, 0.9, 0.6), Part("logits\n(N, C)", None, 0.55)]
    ids = Part("token ids\n(N, T)", None, 0.75)
    chain(axes, 0.15, y, ids, encoder, kept, *head, gap=0.34)
    gradients(axes, 7.5, 4.0, 1.5)
    for start, end, words in ((0.15, 3.85, "once for each review"), (4.0, 7.85, "at every step")):
        axes.plot([start, start, end, end], [1.08, 1.0, 1.0, 1.08], color=DARK, lw=1)
        write(axes, (start + end) / 2, 0.8, words, fontweight="bold")
    return axes.figure


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
    inner = [Part("h  (N, T, d)", None, 1, 0.2), gap, Part("f", NONE, 0.3, 0.3), gap, PLUS]
    inner += [Part("$h + W_{up}\\,f(W_{down}\\,h + b_{down}) + b_{up}$", None, 1, 0.3)]
    at = chain(axes, x, 1.2, *inner, gap=0.36, up=True)
    for y, words, below in ((at[1], "$W_{down}$  (m, d)", 2.0), (at[3], "$W_{up}$  (d, m)", 1.3)):
        above = 3.3 - below
        wide = [(-below, -0.3), (below, -0.3), (above, 0.3), (-above, 0.3)]
        corners = [(x + side / 2, y + to) for side, to in wide]
        axes.add_patch(Polygon(corners, fc=TRAINED, ec=DARK, zorder=2))
        write(axes, x, y, words)
    write(axes, 5.85, at[2], "(N, T, m)", ha="left")
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
    words = f"update of $W_0$\n(d, d), rank r at most\n\n{d * d:,} numbers,\nmade from B and A"
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


def frozen_blocks() -> Figure:
    """The first blocks run once, into a file; the last ones learn from it."""
    title = "LoRA in the last 3 of 6 blocks: what runs once, what at every step?"
    axes, high, low = canvas(4.2, title, FROZEN, TRAINED, NONE), 3.0, 1.5
    write(axes, 0.15, high + 0.45, "once for each review", ha="left", fontweight="bold")
    write(axes, 1.1, low + 0.38, "at every step", ha="left", fontweight="bold")
    first = [Part("token ids\n(N, T)", None, 0.75), Part("embeddings", FROZEN, 0.95)]
    first += [Part(f"block {k}", FROZEN, 0.7) for k in range(3)]
    states = Part("file of hidden\nstates (N, T, d)", NONE, 1.25, 0.6)
    at = chain(axes, 0.15, high, *first, states, gap=0.36)
    last = [Part(f"block {k}", FROZEN, 1.25, 0.36, LORA) for k in range(3, 6)]
    last += [Part("head", TRAINED, 0.6), Part("logits,\nloss", None, 0.6)]
    chain(axes, 1.1, low, *last, gap=0.36)
    arrow(axes, (at[5], high - 0.3), (at[5], 2.3), (0.5, 2.3), (0.5, low), (1.1, low))
    gradients(axes, 7.2, 1.0, 1.0)
    return axes.figure


def families() -> Figure:
    """The methods by what they do to a frozen classifier: a tree with five branches."""
    axes = canvas(4.6, "What does each family do to the pretrained model?", FROZEN, TRAINED)
    box(axes, 0.85, 2.3, Part("pretrained\nclassifier,\nfrozen", FROZEN, 1.3, 0.9))
    rows = (
        ("selected", "some of its weights learn", ("head-only", "BitFit", "LN-tuning", "full")),
        ("added", "new layers in between", ("adapters", "LoReFT")),
        ("re-parametrised", "$W_0$ gets a small update", ("LoRA", "PiSSA", "DoRA", "VeRA")),
        ("rescaled", "activations times a vector", ("(IA)$^3$",)),
        ("put beside", "a small network reads it", ("side-tuning",)),
    )
    for i, (family, what, names) in enumerate(rows):
        y = 3.8 - 0.75 * i
        arrow(axes, (1.5, 2.3), (1.75, 2.3), (1.75, y), (2.05, y))
        write(axes, 2.12, y + 0.1, family, ha="left", fontsize=11, fontweight="bold")
        write(axes, 2.12, y - 0.13, what, ha="left", fontsize=SMALL)
        for k, name in enumerate(names):
            box(axes, 4.55 + 0.94 * k, y, Part(name, TRAINED, 0.88))
    note = "re-parametrised and rescaled: can be merged into the weights afterwards"
    write(axes, 7.85, 0.2, note, fontsize=SMALL, ha="right")
    return axes.figure


FIGURES = (frozen_model, block, head_only, adapter, lora, low_rank, frozen_blocks, families)

if __name__ == "__main__":
    print("\n".join(map(str, draw())))
