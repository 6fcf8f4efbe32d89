"""One table of the methods' labels and looks, and the frame around the axes of every figure."""

import textwrap
import warnings
from collections import namedtuple
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path

import matplotlib
import numpy as np

from boundary import BadInput, replacing
from method_text import read_text, text_of

matplotlib.use("Agg")  # figures go to files, on machines without a screen too
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex, to_rgb

Look = namedtuple("Look", "label colour marker")

# Okabe and Ito's and Tol's colours survive colour blindness; markers survive grey print.
METHODS = {
    "head": Look("head-only", "#E69F00", "o"),
    "adapter": Look("adapters", "#0072B2", "s"),
    "lora": Look("LoRA", "#009E73", "^"),
    "bitfit": Look("BitFit", "#CC79A7", "v"),
    "full": Look("full fine-tuning", "#999999", "D"),
    "dora": Look("DoRA", "#117733", "<"),
    "ia3": Look("(IA)³", "#882255", ">"),
    "vera": Look("VeRA", "#44AA99", "p"),
    "ln": Look("LN-tuning", "#AA4499", "*"),
    "reft": Look("LoReFT", "#332288", "h"),
    "tfidf": Look("TF-IDF", "#56B4E9", "P"),
    "probe": Look("probe", "#D55E00", "X"),
}
OTHERS = ("#000000", "#661100", "#6699CC", "#AA4466", "#4B4B4B")  # methods that are not above
MARKERS = ("X", "<", ">", "p", "*", "h", "d", "H", "8", "o", "s", "^", "v", "D", "P")
DARKEST, LIGHTEST = -0.5, 0.6  # of a method's variants: how much black or white is mixed in
COMBINED = -0.35  # the same, of combinations


def looks(
    methods: Sequence[str], blocks: Mapping[str, int | None] | None = None
) -> dict[str, Look]:
    """The look of each method of an experiment, written as one types it ("lora(rank=4)").

    `blocks`: how many of the last blocks a method trains, None: all; it names fine-tuning.
    Variants of one method have its colour, from dark to light, and a marker each; a combination
    has a dark shade of its first part's. A method that is not in `METHODS` goes by its own name, in
    one of `OTHERS`.
    """
    families = {}
    for method in dict.fromkeys(methods):
        families.setdefault(parse(method)[0], []).append(method)
    taken = {METHODS[name].marker for name in families if name in METHODS}
    markers = cycle([marker for marker in MARKERS if marker not in taken])
    others, drawn = cycle(OTHERS), {}
    for name, variants in families.items():
        first = METHODS.get(name) or _combined(name, blocks) or Look(name, next(others), None)
        for i, method in enumerate(variants):
            drawn[method] = Look(
                _label(method, first.label, (blocks or {}).get(method)),
                _shade(first.colour, i, len(variants)),
                next(markers) if i or not first.marker else first.marker,
            )
    return {method: drawn[method] for method in dict.fromkeys(methods)}


def _combined(method, blocks):
    """The look of "lora(rank=4)+tfidf"; None of what is no combination."""
    parts = [text_of(*part) for part in _parts(method)]
    if len(parts) < 2:
        return None
    parts = [looks([part], blocks)[part] for part in parts]
    return Look(" + ".join(look.label for look in parts), _mixed(parts[0].colour, COMBINED), None)


def _label(method, label, blocks):
    """Such as "LoRA (rank=4)"; what trains the last k blocks is not called full fine-tuning."""
    name, given = parse(method)
    if name == "full":
        blocks = given.pop("blocks", blocks)
        last = "block" if blocks == 1 else f"{blocks} blocks"
        label = label if blocks is None else f"fine-tuning of the last {last}"
    texts = [f"{key}={as_text(value)}" for key, value in given.items()]
    return f"{label} ({', '.join(texts)})" if texts else label


def parse(method: str) -> tuple[str, dict]:
    """The name and the values of "lora(targets=('q', 'v'))": "lora", {"targets": ("q", "v")}.

    Of a combination the whole text, and none.
    """
    parts = _parts(method)
    return parts[0] if len(parts) == 1 else (method, {})


def _parts(method):
    """Name and values of each part; of what is none of ours, in a file of others, its text."""
    try:
        return read_text(method)
    except BadInput:
        return [(method, {})]


def without(name: str, method: str) -> str:
    """A method without one of its values: of "lora(rank=4, blocks=2)" and blocks "lora(rank=4)"."""
    family, values = parse(method)
    return text_of(family, {key: value for key, value in values.items() if key != name})


def as_difference(one: str, other: str, sign: str = " − ") -> str:
    """Two labels as a difference: "LoRA − probe", "(LoRA + TF-IDF) − LoRA"."""
    return sign.join(f"({label})" if " + " in label else label for label in (one, other))


def as_text(value) -> str:
    """A hyperparameter's value, as labels show it; lists within lists too."""
    if isinstance(value, float):
        return f"{value:g}"
    return ", ".join(map(as_text, value)) if isinstance(value, tuple | list) else str(value)


def _shade(colour, i, count):
    """The i-th of `count` shades of a colour, which itself is the only one."""
    return _mixed(colour, DARKEST + (LIGHTEST - DARKEST) * i / (count - 1) if count > 1 else 0.0)


def _mixed(colour, share):
    """With this share of white mixed in or, where it is negative, of black."""
    target = 1.0 if share > 0 else 0.0
    return to_hex([part + abs(share) * (target - part) for part in to_rgb(colour)]).upper()


def set_style() -> None:
    """What every figure has in common."""
    warnings.filterwarnings("ignore", "Glyph .* missing from font")  # an emoji becomes a box
    common = {"font.size": 11, "axes.grid": True, "grid.alpha": 0.3, "axes.axisbelow": True}
    common |= {"axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False}
    common |= {"figure.constrained_layout.use": True, "figure.dpi": 150}
    common |= {"text.parse_math": False}  # a "$" of the data is no formula
    plt.rcParams.update(common)


def save(path: Path, drawn: tuple, title: str, subtitle: str) -> Path:
    """Frame what a drawing function returned, (figure, note, legend's handles), and write it.

    The title stands above the axes; below are what was measured, what the marks mean, and the
    legend.
    """
    figure, note, handles = drawn
    width = figure.get_figwidth()
    lines = f"{note}\n{subtitle}".strip().splitlines()
    lines = [textwrap.fill(line, int(width / 0.066)) for line in lines]
    longest = max((len(handle.get_label()) for handle in handles), default=0)
    figure.suptitle(textwrap.fill(title, int(width / 0.112)), fontsize=13, fontweight="bold")
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0, 0),
        ncols=max(1, int(width / (0.75 + 0.075 * longest))),
        title="\n".join(lines),
        title_fontsize=8.5,
        fontsize=9.5,
        alignment="left",
    )
    with replacing(path) as part:
        figure.savefig(part, format="png", bbox_inches="tight")
    plt.close(figure)
    return path


def error_bar(axes, x, y, ends: tuple, across: bool = False, **style) -> None:
    """Points with intervals from `ends[0]` to `ends[1]`: upright, or `across` the figure.

    An end may lie one rounding on the wrong side of its point, where matplotlib refuses it. A
    point whose ends are NaN has no bar.
    """
    point, (low, high) = (x if across else y), ends
    size = np.reshape(np.fmax([point - low, high - point], 0.0), (2, -1))
    axes.errorbar(x, y, **{"xerr" if across else "yerr": size}, **style)


def line_handle(look: Look, **more) -> plt.Line2D:
    """A method's entry in a legend of lines."""
    style = {"color": look.colour, "marker": look.marker}
    return plt.Line2D([], [], label=look.label, **(style | more))


def ring_handle(label: str) -> plt.Line2D:
    """A legend's entry for the ring around a chosen point."""
    return plt.Line2D([], [], label=label, color="black", marker="o", fillstyle="none", ls="")
