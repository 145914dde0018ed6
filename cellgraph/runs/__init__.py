"""Runs: what an experiment of either kind does with its folder, and what is read from it later."""

from lazy_loader import attach_stub

# The names are in the stub beside this file; what one needs is imported when it is first used.
__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
