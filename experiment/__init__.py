"""What stands around the training loop: settings, data and base model, runs and their folders."""

from . import processes
from .baselines import fit_baseline
from .experiment import Experiment
from .inference import compute_all, features_of, score
from .results_folder import summarise
from .runs import Run, Series
from .settings import Presets, Settings, parse, resume_command, tokens_at_once
from .setup import prepare
from .state_cache import cached_states
from .training_state import State
