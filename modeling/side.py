r"""Ladder side-tuning: a small network beside the encoder learns (Sung et al. 2022).

arXiv:2206.06522, section 3.2. It reads the encoder's hidden states, and nothing goes back:

    encoder   h_0 --block 1--> h_1 --block 2--> h_2 --------------> + --> pooling, head
               |                |                |                  |
              down             down             down                up
               |                |                |                  |
    side      s_0 ----gate----> * --block 1'-> s_1 --gate-> * ... s_k

    s_0 = down_0 h_0        s_i = block_i'( g_i down_i h_i + (1 - g_i) s_{i-1} )
    g_i = sigmoid(a_i / 0.1)        h_k + up s_k is what the head reads

h (N, T, d); s (N, T, m): k transformer blocks of width m, four heads and a feed-forward of 4 m. No
gradient enters the encoder, so all of it runs once for each text, and its k + 1 hidden states are
stored. up = 0 and a = 0, so training starts at the pretrained model with gates half open.

Trained: (k + 1)(d m + m) + k (12 m^2 + 13 m + 1) + m d + d. Where we differ: the side blocks start
random and not from pruned weights (section 3.3), and up s_k is added to h_k, where the paper gives
the head up s_k alone.
"""

import torch
from torch import Tensor, nn

from boundary import BadInput

from .base import Frozen, PeftModel
from .pooling import mean_of_tokens

HEADS, TEMPERATURE = 4, 0.1


class SideNetwork(nn.Module):
    """`count` blocks of width m beside an encoder of width d."""

    def __init__(self, d: int, m: int, count: int):
        super().__init__()
        self.down = nn.ModuleList(nn.Linear(d, m) for _ in range(count + 1))
        self.gates = nn.Parameter(torch.zeros(count))
        options = {"dropout": 0.0, "activation": "gelu", "batch_first": True}
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(m, HEADS, 4 * m, **options) for _ in range(count)
        )
        self.up = nn.Linear(m, d)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, hidden: list[Tensor], attention_mask: Tensor) -> Tensor:
        """The encoder's `count` + 1 hidden states (N, T, d) and the mask (N, T) -> (N, T, d)."""
        s = self.down[0](hidden[0])
        gates = torch.sigmoid(self.gates / TEMPERATURE)
        for g, down, h, block in zip(gates, self.down[1:], hidden[1:], self.blocks, strict=True):
            mixed = g * down(h) + (1 - g) * s
            s = block(mixed, src_key_padding_mask=attention_mask == 0)
        return self.up(s)


class SideModel(PeftModel):
    """Train a small network that reads the encoder's last blocks, and the head."""

    learning_rate = 1e-3

    def adapt(self, width: int = 64, blocks: int | None = None) -> None:
        """Put a side network of `width` m beside the last `blocks` blocks, None: all.

        Raises `BadInput` for a width that four heads do not share, no blocks, or more blocks than
        there are.
        """
        if width < 1 or width % HEADS:
            raise BadInput(f"width is {width}; expected a multiple of {HEADS}, its heads")
        count = len(self.last_blocks(blocks))
        if not count:
            raise BadInput("blocks is 0; expected 1 or more: the side network reads them")
        side = SideNetwork(self.pretrained.config.hidden_size, width, count)
        self.pretrained.side = side.to(next(self.blocks.parameters()))

    @property
    def frozen_blocks(self) -> int:
        """All: the side network reads them."""
        return len(self.blocks)

    @property
    def stored_vectors(self) -> tuple[int, int]:
        """The k + 1 hidden states of each token, and of the means of layers all but the last."""
        return len(self.pretrained.side.down), len(self.blocks) * (self.pooling == "layers")

    @torch.no_grad()
    def frozen_states(self, input_ids: Tensor, attention_mask: Tensor) -> Frozen:
        """The k + 1 hidden states of each token, (N, T, (k + 1) d), and the means of layers."""
        options = {"output_hidden_states": True} | self.architecture.options
        states = self.pretrained.base_model(
            input_ids=input_ids, attention_mask=attention_mask, **options
        ).hidden_states
        means = [mean_of_tokens(h, attention_mask) for h in states[: self.stored_vectors[1]]]
        hidden = torch.cat(states[-self.stored_vectors[0] :], -1)
        return Frozen(hidden, torch.stack(means, 1) if means else None)

    def encode(self, input_ids: Tensor, attention_mask: Tensor, frozen=None) -> Tensor:
        """Token ids and their mask (N, T) -> pooled features, as every method's."""
        hidden, means = frozen or self.frozen_states(input_ids, attention_mask)
        states = hidden.chunk(self.stored_vectors[0], -1)
        last = states[-1] + self.pretrained.side(states, attention_mask)
        return self.pool(last, attention_mask, means)
