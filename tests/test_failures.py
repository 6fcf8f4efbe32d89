"""A failure is one run's: its state stays, and the next start goes on."""

import pytest
import torch
from test_runs import contents
from tqdm import tqdm

import finetuning
from boundary import BadInput
from experiment import parse
from experiment.runs import RECORD, STATE
from records import RunRecord

pytestmark = pytest.mark.usefixtures("without_figures")


def failing_after_an_evaluation(error):
    """`train_part`, which fails at its second call."""
    calls, train_part = [], finetuning.train_part

    def fail(*given):
        calls.append(given)
        if len(calls) == 2:
            raise error
        return train_part(*given)

    return fail


MEMORY = "[enforce fail at alloc_cpu.cpp:116] . DefaultCPUAllocator: can't allocate memory"
FAILURES = {
    "out of memory on a GPU": torch.OutOfMemoryError("CUDA out of memory."),
    "out of memory on a CPU": RuntimeError(MEMORY),
    "a full disk": OSError(28, "No space left on device"),
    "a cache that cannot be written": BadInput("the frozen blocks' states cannot be kept"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_is_one_runs_and_leaves_its_state(
    arguments, monkeypatch, tmp_path, capsys, failure
):
    given = ["--methods", "lora", "head"]
    assert finetuning.main(arguments("one", *given)) == 0
    with monkeypatch.context() as patch:
        fail = failing_after_an_evaluation(FAILURES[failure])
        patch.setattr(finetuning, "train_part", fail)
        assert finetuning.main(arguments("two", *given)) == 1
    error = capsys.readouterr().err
    assert error.startswith("lora seed 0 failed: ") and error.count("\n") == 1
    folder = tmp_path / "two" / "tiny"
    assert RunRecord.read(folder / "lora-seed0" / RECORD).status.startswith("failed: ")
    assert RunRecord.read(folder / "head-seed0" / RECORD).is_finished
    assert (folder / "lora-seed0" / STATE).exists()
    assert finetuning.main(arguments("two", *given)) == 0
    assert contents(tmp_path / "one" / "tiny") == contents(folder)


def test_a_finished_run_whose_line_cannot_be_printed_stays_finished(
    arguments, monkeypatch, tmp_path
):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tqdm, "write", full)
    finetuning.main(arguments("one", "--methods", "head"))
    assert RunRecord.read(tmp_path / "one" / "tiny" / "head-seed0" / RECORD).is_finished


def test_a_failed_run_may_be_tried_with_other_constants(arguments, monkeypatch, tmp_path):
    given = arguments("one", "--methods", "lora")
    with monkeypatch.context() as patch:
        fail = failing_after_an_evaluation(torch.OutOfMemoryError("out of memory"))
        patch.setattr(finetuning, "train_part", fail)
        assert finetuning.main(given) == 1
    other = arguments("two", "--methods", "lora", "--batch-size", "8")
    assert finetuning.main([*given, "--batch-size", "8"]) == finetuning.main(other) == 0
    assert contents(tmp_path / "one" / "tiny") == contents(tmp_path / "two" / "tiny")


def test_a_failed_run_that_was_tried_again_and_interrupted_is_an_unfinished_one(
    arguments, monkeypatch, tmp_path, capsys
):
    given = arguments("one", "--methods", "lora")
    for error, status in ((torch.OutOfMemoryError("out of memory"), 1), (KeyboardInterrupt, 130)):
        with monkeypatch.context() as patch:
            patch.setattr(finetuning, "train_part", failing_after_an_evaluation(error))
            assert finetuning.main([*given, "--batch-size", "8"]) == status
    assert not (tmp_path / "one" / "tiny" / "lora-seed0" / RECORD).exists()
    assert finetuning.main(given) == 2
    assert "has runs with BATCH_SIZE = 8, not 16" in capsys.readouterr().err


def test_a_failed_run_that_another_process_took_and_left_is_taken(arguments, monkeypatch, tmp_path):
    given = arguments("one", "--methods", "head", "lora")
    with monkeypatch.context() as patch:
        fail = failing_after_an_evaluation(torch.OutOfMemoryError("out of memory"))
        patch.setattr(finetuning, "train_part", fail)
        assert finetuning.main(arguments("one", "--methods", "lora")) == 1
    todo = finetuning.prepare(parse(vars(finetuning), given)).runs_to_do()
    assert next(todo).method.name == "head"
    (tmp_path / "one" / "tiny" / "lora-seed0" / RECORD).unlink()  # by its first evaluation
    assert [run.method.name for run in todo] == ["lora"]


def test_a_loss_that_is_not_finite_starts_its_run_anew(arguments, monkeypatch, tmp_path):
    fail = failing_after_an_evaluation(FloatingPointError("the loss is nan at step 9"))
    monkeypatch.setattr(finetuning, "train_part", fail)
    assert finetuning.main(arguments("one", "--methods", "lora")) == 1
    assert not (tmp_path / "one" / "tiny" / "lora-seed0" / STATE).exists()


def test_a_failed_run_is_tried_again_by_the_next_start(arguments, tmp_path, monkeypatch):
    fine_tune = finetuning.fine_tune
    tries = []

    def failing(experiment, run):
        tries.append(run.name)
        raise FloatingPointError("the loss is nan at step 1")

    monkeypatch.setattr(finetuning, "fine_tune", failing)
    given = arguments("one", "--methods", "head")
    assert finetuning.main(given) == 1 and tries == ["head-seed0"]
    monkeypatch.setattr(finetuning, "fine_tune", fine_tune)
    assert finetuning.main(given) == 0
