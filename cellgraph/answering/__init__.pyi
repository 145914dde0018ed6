from .bank import AnswerBank, Candidate
from .confidence import Confidence
from .generator import GenerativeDecoder
from .lexical import Lexical
from .run import FinishedRun
from .session import Answer, Session

__all__ = [
    "Answer",
    "AnswerBank",
    "Candidate",
    "Confidence",
    "FinishedRun",
    "GenerativeDecoder",
    "Lexical",
    "Session",
]
