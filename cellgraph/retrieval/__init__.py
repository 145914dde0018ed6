"""Retrieval: from question to answer, trained on embedded pairs and judged beside baselines on pairs not seen."""

from cellgraph.retrieval.baselines import Baseline, Identity, MeanAnswer, Procrustes, Ridge, closed_forms
from cellgraph.retrieval.bootstrap import Interval, bootstrap_interval, bootstrap_intervals, paired_difference
from cellgraph.retrieval.controls import AdaptersAlone, LinearMLP
from cellgraph.retrieval.embedded import Batch, EmbeddedPairs
from cellgraph.retrieval.evaluation import Evaluation, Prediction, evaluate, predict, predict_closed_forms
from cellgraph.retrieval.loader import DialogueLoader
from cellgraph.retrieval.metrics import (
    chance_level,
    cosine,
    csls,
    distinct_answers,
    neighbourhood_cosine,
    ranks,
    recall_at_k,
    reciprocal_ranks,
)
from cellgraph.retrieval.module import LatticeModule
from cellgraph.retrieval.nearest import NearestAnswers, nearest_answers
from cellgraph.retrieval.objectives import Objective
from cellgraph.retrieval.run import TrainSettings, train
from cellgraph.retrieval.table import markdown, print_evaluation, save_evaluation

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
