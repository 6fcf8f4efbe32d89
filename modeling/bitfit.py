"""BitFit: only the biases of the encoder learn (Ben Zaken et al. 2021, arXiv:2106.10199)."""

from boundary import BadInput

from .base import PeftModel


class BitFitModel(PeftModel):
    """Train the biases of all blocks, and the head."""

    def adapt(self) -> None:
        """Unfreeze every bias; `BadInput` for a family that has none (Llama, Qwen3)."""
        biases = [p for name, p in self.blocks.named_parameters() if name.endswith("bias")]
        if not biases:
            raise BadInput(f"the {self.pretrained.config.model_type} family has no biases")
        for bias in biases:
            bias.requires_grad_(True)
