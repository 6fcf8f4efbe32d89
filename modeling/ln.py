r"""LN-tuning: only the gains and biases of the LayerNorms learn (Qi et al. 2022, arXiv:2211.08682).

    norm(x) = g * (x - mean(x)) / sd(x) + b        x (..., d); g, b (d,): trained

A block has 4 d trainable parameters, or 2 d where its norms have no b. Decoders' norms have none,
and divide x by its root mean square.

Where we differ: norms outside the blocks (of embeddings, of a decoder's output) stay frozen.
"""

from .base import PeftModel


class LNModel(PeftModel):
    """Train the normalisation layers of the blocks, and the head."""

    def adapt(self, blocks: int | None = None) -> None:
        """Unfreeze the norms of the last `blocks` blocks, None: of all."""
        for block in self.last_blocks(blocks):
            for path in self.architecture.norms:
                block.get_submodule(path).requires_grad_(True)
