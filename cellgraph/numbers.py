"""Numbers: what any library gives as one, as Python's own.

NumPy's numbers and tensors without axes are as good as Python's wherever one is wanted, and nothing keeps them as they
are: they could not be saved as JSON, nor be read back from a checkpoint.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
Made = TypeVar("Made")
Converter = Callable[[str, Any], Any]


def integer(name: str, value: Any) -> int:
    """A whole number as an ``int``.

    Args:
        name: What it is called, for the error.
        value: Python's, NumPy's, or a tensor without axes.

    Raises:
        ValueError: If it is none; neither a truth value nor a float is one.

    Example:
        >>> import numpy as np
        >>> integer("num_steps", np.int64(3))
        3
    """
    if not has_axis(value) and not _is_truth(value):
        try:
            return operator.index(value)
        except TypeError:
            pass
    raise ValueError(f"{name} must be an integer, got {value!r}")


def seed(name: str, value: Any) -> int:
    """The seed of a generator: a whole number that NumPy's and PyTorch's take.

    Raises:
        ValueError: If it is none, or not one of 0 to 4,294,967,295.
    """
    plain = integer(name, value)
    if not 0 <= plain < 2**32:
        raise ValueError(f"{name} must be one of 0 to {2**32 - 1}, got {plain}")
    return plain


def number(name: str, value: Any) -> float:
    """A number as a ``float``, see :func:`integer`.

    Raises:
        ValueError: If it is none; neither a truth value nor NaN is one.
    """
    if not has_axis(value) and not _is_truth(value):
        try:
            plain = float(value)
        except (TypeError, ValueError, OverflowError):
            plain = float("nan")
        if plain == plain:
            return plain
    raise ValueError(f"{name} must be a number, got {value!r}")


def truth(name: str, value: Any) -> bool:
    """A truth value as a ``bool``, see :func:`integer`.

    Raises:
        ValueError: If it is none; no number is one.
    """
    if not has_axis(value) and _is_truth(value):
        return bool(value)
    raise ValueError(f"{name} must be true or false, got {value!r}")


def integers(name: str, value: Any) -> tuple[int, ...]:
    """Whole numbers: of a sequence, an array or a tensor with one axis.

    Raises:
        ValueError: If it is none of these, or one of them is no whole number.
    """
    return _several(name, value, integer, "integers")


def numbers(name: str, value: Any) -> tuple[float, ...]:
    """Numbers, see :func:`integers`."""
    return _several(name, value, number, "numbers")


def named_numbers(name: str, value: Any) -> dict[str, float]:
    """Numbers by name.

    Raises:
        ValueError: If it is no mapping, or one of its values is no number.
    """
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} must be numbers by name, got {value!r}")
    return {key: number(f"{name}[{key!r}]", part) for key, part in value.items()}


def span(name: str, value: Any) -> tuple[int, int]:
    """The least and the most of a range of positive whole numbers, which may be given as one number.

    Raises:
        ValueError: If they are none, not positive, or not in order.

    Example:
        >>> span("num_steps", 12), span("num_steps", [8, 12])
        ((12, 12), (8, 12))
    """
    ends = integers(name, value) if has_axis(value) else (value, value)
    least, most = (integer(name, end) for end in ends) if len(ends) == 2 else (0, 0)
    if not 0 < least <= most:
        raise ValueError(f"{name} must be positive, or the least and the most of a range, got {value}")
    return least, most


def at_least(least: float, **values: float) -> None:
    """Refuse numbers that are less.

    Args:
        least: What each must be at least.
        values: Numbers by name.

    Raises:
        ValueError: If one of them is less.

    Example:
        >>> at_least(1, width=3, depth=0)
        Traceback (most recent call last):
        ValueError: depth must be at least 1, got 0
    """
    for name, value in values.items():
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")


def has_axis(value: Any) -> bool:
    """Whether it is a sequence, or an array or tensor with an axis, and so no single number."""
    axes: Any = getattr(value, "ndim", 0)
    return isinstance(value, Sequence) or axes > 0


def plain(value: Any) -> Any:
    """Python's own of a number or truth value, where it is one with another type; anything else as it is."""
    return value.item() if getattr(value, "ndim", None) == 0 else value


#: What is made of an argument that is annotated so; of whole numbers named ``seed`` what :func:`seed` makes of them.
CONVERTERS: dict[str, Converter] = {
    "int": integer,
    "float": number,
    "bool": truth,
    "Sequence[int]": integers,
    "tuple[int, int]": integers,
    "Sequence[float]": numbers,
    "tuple[float, float]": numbers,
    "Mapping[str, float]": named_numbers,
}


def plain_numbers(constructor: Callable[P, Made]) -> Callable[P, Made]:
    """Decorate a constructor: its arguments become what :data:`CONVERTERS` makes of their annotations.

    Example:
        >>> import numpy as np
        >>> class Wave:
        ...     @plain_numbers
        ...     def __init__(self, length: int, *, speed: float = 1.0, steps: int | None = None) -> None:
        ...         self.length, self.speed, self.steps = length, speed, steps
        >>> wave = Wave(np.int32(7), speed=np.float32(0.5))
        >>> wave.length, wave.speed, wave.steps
        (7, 0.5, None)
        >>> Wave(True)
        Traceback (most recent call last):
        ValueError: length must be an integer, got True
    """
    parameters = inspect.signature(constructor).parameters.values()
    converters = {parameter.name: _converter(parameter.name, parameter.annotation) for parameter in parameters}
    by_place = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]

    @functools.wraps(constructor)
    def converted(*args: P.args, **kwargs: P.kwargs) -> Made:
        placed = [converters[name](name, value) for name, value in zip(by_place, args, strict=False)]
        named = {name: converters.get(name, _kept)(name, value) for name, value in kwargs.items()}
        return constructor(*placed, *args[len(placed) :], **named)  # type: ignore[arg-type]

    return converted


def settle_numbers(settings: Any, *, kind: str = "") -> None:
    """Do to the fields of a dataclass, from its ``__post_init__``, what :func:`plain_numbers` does to arguments.

    Args:
        settings: The dataclass.
        kind: What a field is, before its name in errors.

    Raises:
        ValueError: If a field is nothing of the kind that it is annotated with.
    """
    for field in dataclasses.fields(settings):
        value = _converter(field.name, field.type)(f"{kind} {field.name}".strip(), getattr(settings, field.name))
        # The dataclass may be frozen, but not before it is made.
        object.__setattr__(settings, field.name, value)


def _converter(name: str, annotation: Any) -> Converter:
    """What to do with values that are named and annotated so; nothing where it says nothing of numbers."""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    convert = CONVERTERS.get(text.removesuffix(" | None"), _kept)
    if convert is integer and name.rpartition("_")[2] == "seed":
        convert = seed
    return functools.partial(_unless_none, convert) if text.endswith(" | None") else convert


def _unless_none(convert: Converter, name: str, value: Any) -> Any:
    return None if value is None else convert(name, value)


def _kept(name: str, value: Any) -> Any:
    return value


def _several(name: str, value: Any, convert: Converter, kind: str) -> tuple[Any, ...]:
    if not has_axis(value) or isinstance(value, (str, bytes)) or getattr(value, "ndim", 1) != 1:
        raise ValueError(f"{name} must be {kind}, got {value!r}")
    return tuple(convert(f"{name}[{place}]", part) for place, part in enumerate(value))


def _is_truth(value: Any) -> bool:
    # By its name, whose ever it is: NumPy's and PyTorch's types of a truth value have nothing else in common.
    return isinstance(value, bool) or str(getattr(value, "dtype", "")).rpartition(".")[2] == "bool"
