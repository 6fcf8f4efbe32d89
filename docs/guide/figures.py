"""Draw the figures of the guide.

python docs/guide/figures.py            docs/guide/figures/*.png, in a few seconds
"""

from pathlib import Path

import figures_of_comparisons as comparisons
import figures_of_methods as methods
import figures_of_models as models
from drawing import DARK, plt

FIGURES = (
    *(models.frozen_model, models.block, models.memory, models.head_only, models.frozen_blocks),
    *(models.causal, methods.adapter, methods.lora, methods.low_rank, methods.families),
    *(methods.dora, methods.vera, methods.ia3, methods.loreft),
    *(comparisons.folds, comparisons.paired_test, comparisons.learning_curves),
    *(comparisons.from_file, comparisons.which_method),
)


def draw(folder: Path = Path(__file__).parent / "figures") -> list[Path]:
    """Draw every figure into `folder`; the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    small = {"dpi": 130, "metadata": {"Software": None}, "pil_kwargs": {"optimize": True}}
    with plt.rc_context({"font.size": 10, "text.color": DARK}):
        for figure in FIGURES:
            drawn = figure()
            drawn.savefig(folder / f"{figure.__name__}.png", **small)
            plt.close(drawn)
    return [folder / f"{figure.__name__}.png" for figure in FIGURES]


if __name__ == "__main__":
    print("\n".join(map(str, draw())))
