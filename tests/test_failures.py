"""A failure is one run's: its state stays, and the next start goes on."""

import pytest
import torch
from test_runs import contents
from tqdm import tqdm

import finetuning
from boundary import BadInput
from experiment import parse, setup
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
    assert "BATCH_SIZE = 8, not 16" in capsys.readouterr().err


def test_a_failed_run_that_another_process_took_and_left_is_taken(arguments, monkeypatch, tmp_path):
    given = arguments("one", "--methods", "head", "lora")
    with monkeypatch.context() as patch:
        fail = failing_after_an_evaluation(torch.OutOfMemoryError("out of memory"))
        patch.setattr(finetuning, "train_part", fail)
        assert finetuning.main(arguments("one", "--methods", "lora")) == 1
    todo = iter(setup.prepare(parse(vars(finetuning), given)))
    assert next(todo).method.name == "head"
    (tmp_path / "one" / "tiny" / "lora-seed0" / RECORD).unlink()  # by its first evaluation
    assert [run.method.name for run in todo] == ["lora"]


def test_a_learning_rate_that_diverges_is_left_out_and_the_others_are_tried(
    arguments, tmp_path, capsys
):
    rates = ["--learning-rates", "head=1e15,0.01,0.1"]
    assert finetuning.main(arguments("one", "--methods", "head", *rates)) == 0
    record = RunRecord.read(tmp_path / "one" / "tiny" / "head-seed0" / RECORD)
    assert list(record.rates_tried) == ["1e+15", "0.01", "0.1"]
    losses = {float(rate): loss for rate, loss in record.rates_tried.items() if loss is not None}
    assert record.learning_rate == min(losses, key=losses.get) < 1
    assert "at learning rate 1e+15" in capsys.readouterr().out


def test_where_no_learning_rate_has_a_finite_loss_the_run_fails_and_starts_anew(
    arguments, monkeypatch, tmp_path
):
    def fail(*_):
        raise FloatingPointError("the loss is nan at step 9")

    given = arguments("one", "--methods", "lora")
    with monkeypatch.context() as patch:
        patch.setattr(finetuning, "train_part", fail)
        assert finetuning.main(given) == 1
    run = tmp_path / "one" / "tiny" / "lora-seed0"
    assert RunRecord.read(run / RECORD).status.startswith("failed: the loss is not finite")
    assert not (run / STATE).exists()
    assert finetuning.main(given) == 0


def test_a_failure_whose_record_cannot_be_written_still_is_the_exit_status(
    arguments, monkeypatch, capsys
):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(finetuning, "train", full)
    monkeypatch.setattr(RunRecord, "write", full)
    assert finetuning.main(arguments("one", "--methods", "head")) == 1
    assert "head seed 0 failed: " in capsys.readouterr().err
