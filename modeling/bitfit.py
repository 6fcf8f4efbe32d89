"""BitFit: only the biases of the encoder learn (Ben Zaken et al. 2021, arXiv:2106.10199).

    h = W x + b                                x (..., d_in), h (..., d_out); b (d_out,) trained
    norm(x) = g * (x - mean(x)) / sd(x) + b    x (..., d); b (d,) trained

W and g stay frozen. A block of BERT has 7 d + d_ff trained biases: of q, k, v, o (4 d), up (d_ff),
down (d) and two LayerNorms (2 d); d_ff is the width of its feed-forward layer.

Where we differ from the authors' code (benzakenelad/BitFit): they also train the bias of the
embeddings' LayerNorm, which stays frozen here, so that frozen blocks are computed once. Of BERT's
pooler they train only the bias; we train the whole head, as every method here does.
"""

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
