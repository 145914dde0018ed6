"""Fixtures of the tests of the command line."""

from undrawn import undrawn as undrawn
