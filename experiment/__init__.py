"""The code around the training loop: settings, data and encoder, runs and their folders."""

from .command import parse
from .data import Data
from .runs import Run
from .settings import Presets, Settings
from .setup import run_experiment
from .training_state import State
