from .balance import Balance
from .diversity import spectrum, vendi_score
from .portrait import Portrait, draw_portrait
from .questions import QUESTION_TYPES, question_type
from .wording import distinct_ngrams, grade

__all__ = [
    "QUESTION_TYPES",
    "Balance",
    "Portrait",
    "distinct_ngrams",
    "draw_portrait",
    "grade",
    "question_type",
    "spectrum",
    "vendi_score",
]
