"""Each constant: it changes what is trained, or it is free, and resuming knows which."""

import pytest

import finetuning
from experiment.settings import CONSTANTS, FREE
from modeling.checkpoint import TENSORS
from records import RunRecord, what_differs

pytestmark = pytest.mark.usefixtures("without_figures", "in_float32_on_the_cpu")

GIVEN = ["--labels", "60", "--max-tokens", "8", "--truncation", "right", "--pooling", "first"]
CHANGES = "max_tokens=6 truncation=left validation_share=0.5 split_seed=1 labels=50 epochs=3 "
CHANGES += "head_epochs_factor=2 batch_size=8 weight_decay=0.5 warmup=0.5 gradient_clip=0.001 "
CHANGES += "encoder_dropout=0.5 pooling=mean blocks=1 folds=5 lora_rank=2 lora_alpha=2 "
CHANGES += "lora_dropout=0.5 lora_targets=q lora_rslora adapter_bottleneck=3"
CHANGES_NOTHING = ["metric=macro_f1", "equivalence_margin=0.3"]
ELSEWHERE = {"evaluations_per_epoch", "patience", "test_examples"}  # of training; of the test
METHOD = {"head_epochs_factor": "head", "adapter_bottleneck": "adapter"}  # of one other than LoRA


def made(command, method, *more, results):
    given = ["--methods", method, "--learning-rates", f"{method}=0.05", *GIVEN, *more]
    assert finetuning.main(command(*given, results=results)) == 0


def test_a_constant_is_compared_on_resuming_where_it_changes_training(command, tmp_path):
    tried = set()
    for method in ("lora", "head", "adapter"):
        made(command, method, results=method)
    for option in [*CHANGES.split(), *CHANGES_NOTHING]:
        name, _, value = option.partition("=")
        method = METHOD.get(name, "lora")
        made(command, method, f"--{name.replace('_', '-')}", *[value] * bool(value), results=name)
        runs = [tmp_path / results / "tiny" / f"{method}-seed0" for results in (method, name)]
        differs = what_differs(*(RunRecord.in_folder(run).depends_on for run in runs))
        one, other = ((run / TENSORS).read_bytes() for run in runs)
        assert bool(differs) == (one != other) == (option not in CHANGES_NOTHING), option
        tried.add(name)
    assert tried | ELSEWHERE | {*FREE} == {*CONSTANTS}
    assert {name.upper() for name in ELSEWHERE} <= RunRecord.in_folder(runs[0]).depends_on.keys()
