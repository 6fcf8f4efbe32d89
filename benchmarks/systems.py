"""The systems that are timed, each in a process of its own: ours, and what users would pick.

All see the same reviews, or the first of them, in batches of the same size. Where the last blocks
alone learn, ours reads what the others make of each review from a file, made before the clock
starts.

A system calls `turn()` before each pass over the reviews, which waits until it is its turn: loading
is outside the clock, and one pass runs at a time.
"""

import multiprocessing
import warnings

import torch

import hardware
from benchmarks.peers import peft_defaults, peft_tuned
from benchmarks.turns import Turn
from benchmarks.work import Training, Work, new_states


def ours(work: Work, device, turn):
    """`finetuning.py`'s model and loop."""
    with new_states():
        training = Training(work, device)
        while turn():
            training()


def evaluation(work: Work, device, turn):
    """`finetuning.py`'s pass over reviews that are not trained on; whole where all blocks learn."""
    with new_states():
        training = Training(work, device)
        while turn():
            training.evaluate()


SYSTEMS = {
    "peft defaults": peft_defaults,
    "peft tuned": peft_tuned,
    "ours": ours,
    "ours, evaluation": evaluation,
}


class Worker:
    """A system in a process of its own; call it for the seconds of one pass over its reviews."""

    def __init__(self, system: str, work: Work):
        self.system, self.work = system, work
        context = multiprocessing.get_context("forkserver")  # imports once, then forks
        context.set_forkserver_preload(["benchmarks.systems"])
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, system, work), daemon=True)
        self.process.start()
        self.lengths = self._answer()

    def __call__(self) -> float:
        self.pipe.send("pass")
        return self._answer()

    def peak_memory(self) -> float | None:
        """MiB above the loaded model before its first step, at the highest."""
        self.pipe.send("memory")
        return self._answer()

    def close(self) -> None:
        """End the process."""
        self.pipe.send("end")
        self.process.join()

    def _answer(self):
        try:
            answer = self.pipe.recv()
        except EOFError:
            answer = RuntimeError("the process has died")
        if isinstance(answer, Exception):
            raise RuntimeError(f"{self.system} on {self.work}: {answer}")
        return answer


def _serve(pipe, system, work):
    warnings.simplefilter("ignore")
    device = hardware.choose_device()
    try:
        torch.manual_seed(0)
        # Ours holds on to freed memory (hardware.keep_freed_memory); the peers hold several GiB.
        ours = system.startswith("ours")
        SYSTEMS[system](work, device, Turn(pipe, device, work.split().lengths, keeps_memory=ours))
    except Exception as error:  # the parent says which system it was
        pipe.send(RuntimeError(f"{type(error).__name__}: {error}"))
