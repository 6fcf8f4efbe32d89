"""Full fine-tuning: all weights learn, or the last blocks' weights. The reference method."""

from .base import PeftModel


class FullModel(PeftModel):
    """Train all parameters, or those of the last blocks and the head."""

    def adapt(self, blocks: int | None = None) -> None:
        """Unfreeze the last `blocks` blocks, None: everything, the embeddings too."""
        for module in [self.pretrained] if blocks is None else self.last_blocks(blocks):
            module.requires_grad_(True)
