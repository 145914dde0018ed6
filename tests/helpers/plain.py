"""Whether a value is Python's own."""

from __future__ import annotations


def plainly(value: object, kind: type, expected: object) -> bool:
    # NumPy's float64 is a float to isinstance.
    return type(value) is kind and value == expected
