from .building import build_experiment
from .experiment import Experiment
from .loading import load, load_experiment
from .pair_dataset import PairDataset
from .pair_model import PairModel

__all__ = ["Experiment", "PairDataset", "PairModel", "build_experiment", "load", "load_experiment"]
