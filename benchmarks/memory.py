"""What training holds in memory, by component: computed from shapes, and measured.

    weights        4 bytes each: the frozen ones too
    gradients      4 bytes for each trained parameter
    optimizer      8 bytes for each trained parameter: AdamW's two moments
    activations    what the forward pass keeps for the backward pass, for the largest micro-batch

With d the width, f = 4 d, H heads, bytes of activations for each token and block:

    x for the gradients of q, k, v, o's A and B           4 x 2d
    q, k, v by heads                                      3 x 2d
    attention's probabilities                             2 H T
    the inputs of two norms, in float32, and moments      2 x (4d + 8)
    the input of GELU                                     2f
    full fine-tuning also: x for up and down              2d + 2f

and, once a block, its matrices in bf16. So LoRA, which trains 1 parameter in 50, keeps four
fifths of the activations: the chain rule needs them down to the first block's A.
"""

import torch

import finetuning
from benchmarks.work import as_run
from data_utils import micro_batches, training_batches


def computed(work, parameters: int, trained: int, reviews: int, tokens: int) -> dict[str, float]:
    """Bytes by component for LoRA or full fine-tuning in bf16, of `reviews` x `tokens`."""
    d, f, blocks, _ = work.sizes
    heads, full = work.config(None).num_attention_heads, work.method == "full"
    cells = reviews * tokens
    block = cells * (14 * d + 2 * heads * tokens + 2 * (4 * d + 8) + 2 * f + full * (2 * d + 2 * f))
    last = cells * 5 * 2 * d  # x for k and v, keys, values, attention's output
    matrices = 2 * (4 * d * d + 2 * d * f)
    embeddings = cells * (4 * d + 8) if full else 0
    return {
        "weights": 4 * parameters,
        "gradients": 4 * trained,
        "optimizer": 8 * trained,
        "activations": (blocks - 1) * block + last + blocks * matrices + embeddings,
    }


def measured(work, device) -> tuple[dict[str, float], dict[str, float]]:
    """Bytes by component, counted tensor by tensor in one step, and what `computed` says."""
    experiment, run = as_run(work, device)
    state, settings = finetuning.start(experiment, run), experiment.settings
    model, reviews = state.model, experiment.splits(0)["train"]
    batch = training_batches(reviews.lengths, work.batch_size, 0, 1)[0]
    parts = micro_batches(reviews.lengths, batch, finetuning.tokens_at_once(settings, device))
    largest = max(parts, key=lambda rows: len(rows) * reviews.lengths[rows].max() ** 2)
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    saved = {}

    def note(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    model.train()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = finetuning.logits_of(model, reviews.batch(largest)).sum()
    activations = sum(saved.values())
    loss.backward()
    trained = model.trainable_parameters().values()
    gradients = sum(p.grad.nbytes for p in trained)
    state.optimizer.step()
    moments = [value for numbers in state.optimizer.state.values() for value in numbers.values()]
    held = {
        "weights": sum(p.nbytes for p in model.parameters()),
        "gradients": gradients,
        "optimizer": sum(value.nbytes for value in moments),
        "activations": activations,
    }
    count, total = model.count_parameters()
    return held, computed(work, total, count, len(largest), reviews.lengths[largest].max())
