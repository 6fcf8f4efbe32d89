"""BitFit: only the biases of the encoder learn (Ben Zaken et al. 2021, arXiv:2106.10199)."""

from boundary import BadInput

from .base import PeftModel


class BitFitModel(PeftModel):
    """Train the biases of the blocks, and the head; the embeddings' biases stay frozen."""

    def adapt(self, blocks: int | None = None) -> None:
        """Unfreeze every bias of the last `blocks` blocks, None: of all.

        Raises `BadInput` for a family without biases (Llama, ModernBERT, Qwen3).
        """
        named = [each for block in self.last_blocks(blocks) for each in block.named_parameters()]
        biases = [parameter for name, parameter in named if name.endswith("bias")]
        if named and not biases:
            raise BadInput(f"the {self.pretrained.config.model_type} family has no biases")
        for bias in biases:
            bias.requires_grad_(True)
