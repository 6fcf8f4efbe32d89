"""Plain attention against the one that transformers chooses, in bf16 too; GPUs that are refused."""

import pytest
import torch
from conftest import raising, randomised, tiny, tokens
from torch.nn import functional as F

import hardware
from boundary import BadInput
from modeling import METHODS, use_fast_attention
from modeling.fast import PLAIN, plain_attention

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def logits_and_gradients(method, family, device):
    """With the attention that suits `device`, transformers' own for None."""
    pretrained = tiny(family)
    if device:
        use_fast_attention(pretrained, device)
    model = randomised(METHODS[method](pretrained))
    ids, mask = tokens(batch=4, length=12)
    logits = model(ids, mask)
    F.cross_entropy(logits, torch.tensor([0, 1, 1, 0])).backward()
    return logits, {name: p.grad for name, p in model.trainable_parameters().items()}


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("device", [CPU, CUDA])
def test_fast_attention_is_the_attention_that_transformers_chooses(family, method, device):
    ours, our_gradients = logits_and_gradients(method, family, device)
    theirs, gradients = logits_and_gradients(method, family, None)
    assert (ours - theirs).abs().max() < 1e-12 * theirs.abs().max()
    largest = max(g.abs().max() for g in gradients.values())
    for name, gradient in gradients.items():
        assert (our_gradients[name] - gradient).abs().max() < 1e-12 * largest, name


def test_every_family_but_those_that_add_relative_positions_takes_plain_attention(family):
    model = tiny(family)
    use_fast_attention(model, CPU)
    assert (model.config._attn_implementation == PLAIN) == (family not in ("deberta-v2", "mpnet"))


def test_a_query_that_may_attend_to_nothing_stays_finite_in_bf16():
    q = k = v = torch.randn(1, 2, 3, 4).bfloat16()
    mask = torch.ones(1, 1, 3, 3, dtype=torch.bool)
    mask[0, 0, 2] = False
    output, _ = plain_attention(None, q, k, v, mask)
    assert output.isfinite().all()
    assert torch.allclose(output[0, 2], v.float().mean(2)[0].bfloat16(), atol=1e-2)


def test_dropout_of_the_shares_keeps_their_mean():
    torch.manual_seed(0)
    q = k = torch.zeros(1, 1, 4, 2)
    v = torch.ones(1, 1, 4, 2)
    outputs = [plain_attention(None, q, k, v, None, dropout=0.25)[0] for _ in range(2000)]
    outputs = torch.stack(outputs)
    assert outputs.mean() == pytest.approx(1, abs=0.02)
    assert outputs.std() > 0.2


@pytest.fixture
def gpus(monkeypatch):
    """Two cards of made-up names; what torch makes on them is on the CPU."""
    answers = {"is_available": True, "device_count": 2, "get_device_name": "P100"}
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, lambda answer=answer: answer)
    monkeypatch.setattr(torch, "ones", lambda n, device: torch.zeros(n))


def test_a_gpu_that_torch_cannot_compute_on_is_refused_and_a_full_one_is_not(gpus, monkeypatch):
    assert hardware.choose_device().type == "cuda"
    no_kernels = RuntimeError("CUDA error: no kernel image is available for execution")
    line = "the GPU P100 cannot be used .*no kernel image.*CUDA_VISIBLE_DEVICES="
    full = torch.OutOfMemoryError("CUDA out of memory")
    for error, kind, words in ((no_kernels, BadInput, line), (full, type(full), "out of memory")):
        monkeypatch.setattr(torch, "ones", raising(error))
        with pytest.raises(kind, match=words):
            hardware.choose_device()


def test_under_torchrun_each_process_takes_a_gpu_of_its_own(gpus, monkeypatch):
    taken = []
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    for rank in "012":
        monkeypatch.setenv("LOCAL_RANK", rank)
        hardware.choose_device()
    assert taken == [0, 1, 0]


def test_the_peak_of_memory_is_of_what_was_held_since_the_reset():
    hardware.reset_peak_memory(CPU)
    if (before := hardware.peak_memory(CPU)) is None:
        pytest.skip("the system does not tell")
    torch.ones(2**24)  # 64 MiB, freed at once
    assert 60 < hardware.peak_memory(CPU) - before < 90
    hardware.reset_peak_memory(CPU)
    assert hardware.peak_memory(CPU) < before + 30
