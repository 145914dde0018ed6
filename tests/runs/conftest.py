"""Fixtures of the tests of runs."""

from undrawn import undrawn as undrawn
