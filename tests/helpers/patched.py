"""Triton's interpreter with its language patched once for a module of tests, instead of at every launch."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

import pytest


@pytest.fixture(scope="module", autouse=True)
def patched() -> Iterator[None]:
    """Patching looks through the whole language, which takes longer than most kernels on small lattices."""
    with contextlib.ExitStack() as stack:
        # Without the interpreter, or with one that patches in another way, all is as it is.
        if importlib.util.find_spec("triton") is not None:
            from triton.runtime import interpreter

            if hasattr(interpreter, "_patch_lang") and hasattr(interpreter, "_LangPatchScope"):
                patch = stack.enter_context(pytest.MonkeyPatch.context())
                patch.setattr(interpreter, "_patch_lang", _once(interpreter._patch_lang, stack))
        yield


def _once(patching: Callable[[Any], Any], stack: contextlib.ExitStack) -> Callable[[Any], Any]:
    """Patch what the functions of a module see when the first of them is called; take it back when the tests end."""
    done: dict[int, Any] = {}

    class Kept:
        """What a launch takes back: nothing."""

        def restore(self) -> None:
            pass

    def patch(function: Any) -> Kept:
        if id(function.__globals__) not in done:
            scope = done[id(function.__globals__)] = patching(function)
            stack.callback(scope.restore)
        return Kept()

    return patch
