"""Metrics of a set of pairs: how diverse, how complex, how good and how balanced it is."""

from lazy_loader import attach_stub

# The names are in the stub beside this file; what one needs is imported when it is first used.
__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
