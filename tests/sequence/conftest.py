"""Fixtures of the tests of networks over sequences."""

from undrawn import undrawn as undrawn
