"""Figure of where a method changed the model, block by block and matrix by matrix."""

import numpy as np

from .results import Results
from .style import plt

MEASURES = {  # column of changes.csv: what it is, how to write it
    "relative_size": ("size of the change / size of the original (%)", "{:.1f}", 100),
    "effective_rank": ("effective rank of the change", "{:.1f}", 1),
}


def changes_map(results: Results, method: str):
    """Blocks from left to right, matrices from top to bottom; means over the seeds."""
    changes = results.changes[results.changes["method"] == method]
    measures = [name for name in MEASURES if changes[name].notna().any()]
    if not measures:
        return None
    blocks, places = changes["block"].nunique(), changes["place"].nunique()
    size = (1.3 + max(3.3, 0.75 * blocks) * len(measures), 2.4 + 0.45 * places)
    figure, panels = plt.subplots(1, len(measures), figsize=size, squeeze=False, sharey=True)
    for axes, measure in zip(panels[0], measures, strict=True):
        label, form, unit = MEASURES[measure]
        table = changes.pivot_table(measure, "place", "block", sort=False) * unit
        axes.imshow(table, cmap="cividis", aspect="auto")
        middle = (np.nanmin(table) + np.nanmax(table)) / 2
        for (y, x), value in np.ndenumerate(table.to_numpy()):
            text = "" if np.isnan(value) else form.format(value)  # not every block need change
            style = {"color": "white" if value <= middle else "black", "fontsize": 9}
            axes.text(x, y, text, ha="center", va="center", **style)
        axes.set_xticks(range(blocks), [block + 1 for block in table.columns])
        axes.set_yticks(range(places), table.index)
        axes.set_xlabel("block")
        axes.set_title(label, fontsize=9.5)
    return figure, "means over the seeds" if changes["seed"].nunique() > 1 else "", ()
