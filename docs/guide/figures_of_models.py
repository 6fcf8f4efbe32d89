"""The figures of chapters 1 to 6, but for the methods: the model, its head, what is frozen."""

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
    gradients,
    write,
)
from matplotlib.figure import Figure

LORA, ADAPTERS = [0.1] * 4, [0.2, 0.05, 0.2, 0.05]  # widths of what learns, inside a block's box
MEMORY = {  # MiB, as chapter 2 prints: weights, gradients, optimizer, activations
    "LoRA": (87.8, 1.7, 3.4, 492.2),
    "full fine-tuning": (86.6, 86.6, 173.3, 582.3),
}


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
    write(
        axes,
        7.85,
        0.2,
        "shares: MiniLM, adapted in all 6 blocks, with BERT's own head",
        fontsize=8,
        ha="right",
    )
    return axes.figure


def block() -> Figure:
    """A block of BERT: two sublayers with their linear layers, residual sums and LayerNorms."""
    axes = canvas(5.8, "What is inside a transformer block?", NONE)
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
    note = "Grey: pretrained weights. Here f = 4d.\n"
    note += "$d_h$: an attention head's width. In italics: BERT's paths, modeling/architectures.py."
    write(axes, 0.15, 0.7, note, fontsize=SMALL, ha="left")
    return axes.figure


def head_only() -> Figure:
    """A frozen encoder that runs once for each review, and a head that reads what it made."""
    axes, y = canvas(3.4, "Head-only: what runs once, what learns?", FROZEN, TRAINED, NONE), 2.2
    encoder = Part("encoder:\nembeddings\nand all blocks", FROZEN, 1.3, 0.9)
    kept = Part("features\n(N, d), kept", NONE, 1.0, 0.6)
    head = [Part("dense\n(d, d)", TRAINED, 0.8, 0.6), Part("tanh", NONE, 0.4)]
    head += [Part("classifier\n(C, d)", TRAINED, 0.9, 0.6), Part("logits\n(N, C)", None, 0.55)]
    ids = Part("token ids\n(N, T)", None, 0.75)
    chain(axes, 0.15, y, ids, encoder, kept, *head, gap=0.34)
    gradients(axes, 7.5, 4.0, 1.5)
    for start, end, words in ((0.15, 3.85, "once for each review"), (4.0, 7.85, "at every step")):
        axes.plot([start, start, end, end], [1.08, 1.0, 1.0, 1.08], color=DARK, lw=1)
        write(axes, (start + end) / 2, 0.8, words, fontweight="bold")
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


def memory() -> Figure:
    """The four kinds of memory that chapter 2 prints, of LoRA and of full fine-tuning."""
    axes = canvas(2.7, "Where does the memory of a training step go?")
    kinds = ("weights", FROZEN), ("gradients", "#56B4E9"), ("optimizer", "#CC79A7")
    kinds += (("activations", "#E69F00"),)
    for y, (name, row) in zip((1.75, 1.15), MEMORY.items(), strict=True):
        write(axes, 1.35, y, name, ha="right")
        left = 1.45
        for size, (_, colour) in zip(row, kinds, strict=True):
            wide = size / 165
            box(axes, left + wide / 2, y, Part(f"{size:.0f}" * (wide > 0.3), colour, wide, 0.4))
            left += wide
        write(axes, left + 0.08, y, f"{sum(row):.0f} MiB", ha="left", fontweight="bold")
    for i, (kind, colour) in enumerate(kinds):
        box(axes, 1.6 + 1.3 * i, 0.6, Part("", colour, 0.24, 0.16))
        write(axes, 1.8 + 1.3 * i, 0.6, kind, fontsize=SMALL, ha="left")
    write(axes, 7.85, 0.2, "MiniLM, 4 texts of 512 tokens, float32", fontsize=SMALL, ha="right")
    return axes.figure


def causal() -> Figure:
    """Which tokens a token reads, in an encoder and in a decoder, and which one is pooled."""
    axes = canvas(3.9, "Which tokens does a token read, and which one does the head get?")
    words, side = ("good", "plot", "bad", "cast"), 0.32
    for left, name, tokens in (
        (1.2, "encoder", ("[CLS]", *words, "[SEP]")),
        (5.4, "decoder", words),
    ):
        pooled, count = 0 if name == "encoder" else 3, len(tokens)
        middle = left + side * (count - 1) / 2
        write(axes, middle, 3.3, f"{name}: {tokens[pooled]} is pooled", fontweight="bold")
        for row in range(count):
            y = 2.35 - side * row
            write(axes, left - 0.28, y, tokens[row], ha="right", fontsize=SMALL)
            write(axes, left + side * row, 2.75, tokens[row], fontsize=SMALL, rotation=30)
            for column in range(count):
                reads = name == "encoder" or column <= row
                colour = (TRAINED if row == pooled else FROZEN) if reads else NONE
                box(axes, left + side * column, y, Part("", colour, side, side))
    note = "A row: a token. Filled: the tokens that it reads. Green: the token whose hidden state"
    write(axes, 0.15, 0.22, note + "\nthe head gets. In a decoder only the last token reads all.",
          fontsize=SMALL, ha="left")  # fmt: skip
    return axes.figure
