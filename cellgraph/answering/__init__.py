"""Answering: from the text of a question to answers in words, and how far to trust them."""

from cellgraph.answering.bank import AnswerBank, Candidate
from cellgraph.answering.confidence import Confidence
from cellgraph.answering.generator import GenerativeDecoder
from cellgraph.answering.run import FinishedRun
from cellgraph.answering.session import Answer, Session

__all__ = ["Answer", "AnswerBank", "Candidate", "Confidence", "FinishedRun", "GenerativeDecoder", "Session"]
