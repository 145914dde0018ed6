"""Generation: question-answer pairs asked from a language model, by a plan of topics."""

from lazy_loader import attach_stub

# The names are in the stub beside this file; what one needs is imported when it is first used.
__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
