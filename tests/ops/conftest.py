"""Fixtures of the tests of operators."""

from patched import patched as patched
