"""What stands around the training loop: settings, data and base model, runs and their folders."""

from . import processes
from .experiment import Experiment
from .frozen import FrozenStates
from .runs import Run
from .settings import Presets, Settings, parse, resume_command
from .setup import prepare
from .state import State
from .summary import summarise

__all__ = [
    "Experiment",
    "FrozenStates",
    "Presets",
    "Run",
    "Settings",
    "State",
    "parse",
    "prepare",
    "processes",
    "resume_command",
    "summarise",
]
