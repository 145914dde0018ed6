"""Fixtures of the tests of the analysis."""

from __future__ import annotations

import pytest
from reported import Made, make


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A report, made once for all that is asked of it."""
    return make(tmp_path_factory.mktemp("report"))
