from .building import build_experiment
from .experiment import Experiment
from .loading import load, load_experiment

__all__ = ["Experiment", "build_experiment", "load", "load_experiment"]
