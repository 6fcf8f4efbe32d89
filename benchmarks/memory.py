"""What training holds in memory, by component: computed from shapes, and measured.

    weights        4 bytes each: the frozen ones too
    gradients      4 bytes for each trained parameter
    optimiser      8 bytes for each trained parameter: AdamW's two means
    activations    what the pass forward keeps for the pass back, for the largest piece of a batch

With d the width, f = 4 d, H heads, bytes of activations for each token and block:

    x for the gradients of q, k, v, o's A and B           4 x 2d
    q, k, v by heads                                      3 x 2d
    attention's shares                                    2 H T
    the inputs of two norms, in float32, and moments      2 x (4d + 8)
    the input of GELU                                     2f
    full fine-tuning also: x for up and down              2d + 2f

and, once a block, its matrices in bf16. So LoRA, which trains 1 parameter in 50, keeps four
fifths of the activations: the chain rule needs them on its way to the first block's A.
"""

import torch

import data_utils
import finetuning
from settings import parse


def computed(work, parameters: int, trained: int, reviews: int, tokens: int) -> dict[str, float]:
    """Bytes by component for LoRA or full fine-tuning in bf16, a piece of `reviews` x `tokens`."""
    d, f, blocks = work.sizes
    heads, full = work.heads, work.method == "full"
    cells = reviews * tokens
    block = cells * (14 * d + 2 * heads * tokens + 2 * (4 * d + 8) + 2 * f + full * (2 * d + 2 * f))
    last = cells * 5 * 2 * d  # x for k and v, keys, values, attention's output
    matrices = 2 * (4 * d * d + 2 * d * f)
    embeddings = cells * (4 * d + 8) if full else 0
    return {
        "weights": 4 * parameters,
        "gradients": 4 * trained,
        "optimiser": 8 * trained,
        "activations": (blocks - 1) * block + last + blocks * matrices + embeddings,
    }


def measured(work, device) -> tuple[dict[str, float], dict[str, float]]:
    """Bytes by component, counted tensor by tensor in one step, and what `computed` says."""
    settings = parse(vars(finetuning), ["--max-tokens", str(work.max_tokens)])
    model = finetuning.place(work.method, work.pretrained(0.0), settings, device)
    reviews = work.tokens()
    optimizer, schedule = finetuning.optimisation(model, len(reviews), settings, 1e-4)
    batch = data_utils.training_batches(reviews.lengths, work.batch_size, 0, 1)[0]
    pieces = data_utils.pieces(reviews.lengths, batch, finetuning.tokens_at_once(settings, device))
    piece = max(pieces, key=lambda piece: len(piece) * reviews.lengths[piece].max() ** 2)
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept = {}

    def note(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    model.train()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = model.classify(finetuning.encode_batch(model, reviews, piece, device)).sum()
    activations = sum(kept.values())
    loss.backward()
    trained = model.trainable_parameters().values()
    gradients = sum(p.grad.nbytes for p in trained)
    optimizer.step()
    states = [value for state in optimizer.state.values() for value in state.values()]
    held = {
        "weights": sum(p.nbytes for p in model.parameters()),
        "gradients": gradients,
        "optimiser": sum(value.nbytes for value in states),
        "activations": activations,
    }
    count, total = model.count_parameters()
    return held, computed(work, total, count, len(piece), reviews.lengths[piece].max())
