"""What stands around the training loop: settings, data and base model, runs and their folders."""

from . import processes
from .experiment import Experiment
from .runs import Run
from .settings import Presets, Settings, parse, resume_command, tokens_at_once
from .setup import prepare
from .state import State
from .state_cache import cached_states
from .summary import summarise
