from .baseline import Baseline
from .baselines import Identity, KernelRidge, MeanAnswer, NearestQuestions, Procrustes, Ridge, closed_forms
from .blend import Blend
from .bootstrap import Interval, bootstrap_interval, bootstrap_intervals, paired_difference
from .controls import AdaptersAlone, Control, LinearMLP, PathAlone
from .embedded import Batch, EmbeddedPairs
from .evaluation import Evaluation, evaluate
from .lesson import PairLesson
from .lexical import BM25
from .loader import DialogueLoader
from .memory_bank import MemoryBank
from .metrics import (
    chance_level,
    cosine,
    csls,
    distinct_answers,
    first_right,
    neighbourhood_cosine,
    ranks,
    recall_at_k,
    reciprocal_ranks,
)
from .nearest import NearestAnswers, nearest_answers
from .objectives import Objective, Predicted, standard_objective
from .prediction import Prediction, Scores, predict, predict_closed_forms
from .question_answering import QuestionAnswering
from .settings import TrainSettings
from .table import markdown, print_evaluation, save_evaluation
from .task import Retrieval

__all__ = [
    "BM25",
    "AdaptersAlone",
    "Baseline",
    "Batch",
    "Blend",
    "Control",
    "DialogueLoader",
    "EmbeddedPairs",
    "Evaluation",
    "Identity",
    "Interval",
    "KernelRidge",
    "LinearMLP",
    "MeanAnswer",
    "MemoryBank",
    "NearestAnswers",
    "NearestQuestions",
    "Objective",
    "PairLesson",
    "PathAlone",
    "Predicted",
    "Prediction",
    "Procrustes",
    "QuestionAnswering",
    "Retrieval",
    "Ridge",
    "Scores",
    "TrainSettings",
    "bootstrap_interval",
    "bootstrap_intervals",
    "chance_level",
    "closed_forms",
    "cosine",
    "csls",
    "distinct_answers",
    "evaluate",
    "first_right",
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
    "standard_objective",
]
