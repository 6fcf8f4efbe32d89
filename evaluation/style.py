"""One table of the methods' labels and looks, and the frame around the axes of every figure."""

import textwrap
from collections import namedtuple
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path

import matplotlib
import numpy as np

from boundary import BadInput, replacing
from method_text import read_text, text_of

matplotlib.use("Agg")  # figures go to files, on machines without a screen too
from matplotlib import font_manager
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex, to_rgb

Look = namedtuple("Look", "label colour marker")

# Okabe and Ito's and Tol's colours survive colour blindness; markers survive grey print.
LOOKS = {
    "head": Look("head-only", "#E69F00", "o"),
    "adapter": Look("adapters", "#0072B2", "s"),
    "lora": Look("LoRA", "#009E73", "^"),
    "bitfit": Look("BitFit", "#CC79A7", "v"),
    "full": Look("full fine-tuning", "#999999", "D"),
    "dora": Look("DoRA", "#117733", "<"),
    "ia3": Look("(IA)³", "#882255", ">"),
    "vera": Look("VeRA", "#999933", "p"),
    "ln": Look("LN-tuning", "#AA4499", "*"),
    "reft": Look("LoReFT", "#332288", "h"),
    "tfidf": Look("TF-IDF", "#56B4E9", "P"),
    "probe": Look("probe", "#D55E00", "X"),
}
OTHERS = ("#000000", "#661100", "#6699CC", "#AA4466", "#4B4B4B")  # for methods not in LOOKS
MARKERS = ("X", "<", ">", "p", "*", "h", "d", "H", "8", "o", "s", "^", "v", "D", "P")
DARKEST, LIGHTEST = -0.5, 0.6  # shares of black (< 0) or white mixed in, for a method's variants
COMBINED = -0.35  # share of black, for combinations
# The first font has no Asian letters: the next installed ones draw them.
FONTS = ["DejaVu Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR"]
FONTS += ["Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "Hiragino Sans", "Arial Unicode MS"]
FONTS += ["PingFang SC", "WenQuanYi Zen Hei", "Noto Sans Thai", "Leelawadee UI", "Thonburi"]
FONTS += ["Garuda", "Noto Sans Devanagari", "Nirmala UI", "Lohit Devanagari"]


def looks(methods: Sequence[str], blocks: Mapping[str, int | None]) -> dict[str, Look]:
    """The look of each method of an experiment, written as one types it ("lora(rank=4)").

    `blocks` says how many of the last blocks a method trains (None: all), for fine-tuning's label.
    Variants of one method have its colour, from dark to light, and a marker each; the method
    without values keeps its own colour and marker. A combination has a dark shade of its first
    part's colour. A method that is not in `LOOKS` has its name as label and a colour of `OTHERS`.
    """
    families = {}
    for method in dict.fromkeys(methods):
        names = tuple(name for name, _ in parts_of(method))
        families.setdefault(names, []).append(method)
    taken = {LOOKS[name].marker for name, *rest in families if name in LOOKS and not rest}
    markers = cycle([marker for marker in MARKERS if marker not in taken])
    spare_colours, drawn = cycle(OTHERS), {}
    for (name, *rest), variants in families.items():
        known = LOOKS.get(name) or Look(name, next(spare_colours), None)
        colour = _mixed(known.colour, COMBINED) if rest else known.colour
        plain = "+".join([name, *rest])
        variants.sort(key=plain.__ne__)  # the method without values, if it is there, is first
        darkest = 0.0 if variants[0] == plain or len(variants) == 1 else DARKEST
        shades = np.linspace(darkest, LIGHTEST, len(variants))
        marker = None if rest else known.marker
        for method, shade in zip(variants, shades, strict=True):
            look = Look(_label(method, blocks), _mixed(colour, shade), marker or next(markers))
            drawn[method], marker = look, None
    return {method: drawn[method] for method in dict.fromkeys(methods)}


def _label(method, blocks):
    """A label such as "LoRA (rank=4) + TF-IDF"; only fine-tuning of all blocks is called "full"."""
    labels = []
    for name, given in parts_of(method):
        label = LOOKS[name].label if name in LOOKS else name
        count = given.pop("blocks", blocks.get(text_of(name, given))) if name == "full" else None
        if count is not None:
            last = "block" if count == 1 else f"{count} blocks"
            label = f"fine-tuning of the last {last}"
        values = ", ".join(f"{key}={as_text(value)}" for key, value in given.items())
        labels.append(f"{label} ({values})" if values else label)
    return " + ".join(labels)


def parts_of(method: str) -> list[tuple[str, dict]]:
    """Name and values of each part of "lora(rank=4)+tfidf".

    A text that is no method counts as one part's name: other people's files may have such texts.
    """
    try:
        return read_text(method)
    except BadInput:
        return [(method, {})]


def without(name: str, method: str) -> str:
    """A method without one value: for blocks, "lora(rank=4, blocks=2)" becomes "lora(rank=4)"."""
    parts = parts_of(method)
    return "+".join(text_of(n, {k: v for k, v in given.items() if k != name}) for n, given in parts)


def as_difference(one: str, other: str, sign: str = " − ") -> str:
    """Two labels as a difference: "LoRA − probe", "(LoRA + TF-IDF) − LoRA"."""
    return sign.join(f"({label})" if " + " in label else label for label in (one, other))


def as_text(value) -> str:
    """A hyperparameter's value, as labels show it; lists within lists too."""
    if isinstance(value, float):
        return f"{value:g}"
    return ", ".join(map(as_text, value)) if isinstance(value, tuple | list) else str(value)


def _mixed(colour, share):
    """The colour with this share of white mixed in or, where it is negative, of black."""
    target = 1.0 if share > 0 else 0.0
    return to_hex([part + abs(share) * (target - part) for part in to_rgb(colour)]).upper()


def set_style() -> None:
    """Set the options of matplotlib that all figures share."""
    common = {"font.size": 11, "axes.grid": True, "grid.alpha": 0.3, "axes.axisbelow": True}
    common |= {"axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False}
    common |= {"figure.constrained_layout.use": True, "figure.dpi": 150}
    common |= {"text.parse_math": False}  # a "$" of the data is no formula
    common |= {"font.family": [font for font in FONTS if font in font_manager.get_font_names()]}
    plt.rcParams.update(common)


def save(path: Path, drawn: tuple, title: str, subtitle: str) -> Path:
    """Write the figure of `drawn`, (figure, note, legend's handles), with title and legend.

    The title stands above the axes; below are the note on what the marks mean, the subtitle on what
    was measured, and the legend.
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

    Rounding may put an end on the wrong side of its point, which matplotlib refuses: that side then
    has length 0. A point whose ends are NaN has no bar.
    """
    point, (low, high) = (x if across else y), ends
    size = np.reshape(np.fmax([point - low, high - point], 0.0), (2, -1))
    style = {"ms": 9, "capsize": 4, "xerr" if across else "yerr": size} | style
    axes.errorbar(x, y, **style)


def line_handle(look: Look, **more) -> plt.Line2D:
    """A method's entry in a legend of lines."""
    style = {"color": look.colour, "marker": look.marker}
    return plt.Line2D([], [], label=look.label, **(style | more))


def ring_handle(label: str) -> plt.Line2D:
    """A legend's entry for the ring around a chosen point."""
    return plt.Line2D([], [], label=label, color="black", marker="o", fillstyle="none", ls="")
