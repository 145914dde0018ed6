from .baselines import Baseline, Identity, MeanAnswer, Procrustes, Ridge, closed_forms
from .bootstrap import Interval, bootstrap_interval, bootstrap_intervals, paired_difference
from .controls import AdaptersAlone, LinearMLP
from .embedded import Batch, EmbeddedPairs
from .evaluation import Evaluation, Prediction, evaluate, predict, predict_closed_forms
from .loader import DialogueLoader
from .metrics import (
    chance_level,
    cosine,
    csls,
    distinct_answers,
    neighbourhood_cosine,
    ranks,
    recall_at_k,
    reciprocal_ranks,
)
from .module import LatticeModule
from .nearest import NearestAnswers, nearest_answers
from .objectives import Objective
from .run import TrainSettings, train
from .table import markdown, print_evaluation, save_evaluation

__all__ = [
    "AdaptersAlone",
    "Baseline",
    "Batch",
    "DialogueLoader",
    "EmbeddedPairs",
    "Evaluation",
    "Identity",
    "Interval",
    "LatticeModule",
    "LinearMLP",
    "MeanAnswer",
    "NearestAnswers",
    "Objective",
    "Prediction",
    "Procrustes",
    "Ridge",
    "TrainSettings",
    "bootstrap_interval",
    "bootstrap_intervals",
    "chance_level",
    "closed_forms",
    "cosine",
    "csls",
    "distinct_answers",
    "evaluate",
    "markdown",
    "nearest_answers",
    "neighbourhood_cosine",
    "paired_difference",
    "predict",
    "predict_closed_forms",
    "print_evaluation",
    "ranks",
    "recall_at_k",
    "reciprocal_ranks",
    "save_evaluation",
    "train",
]
