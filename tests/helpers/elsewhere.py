"""A device that is not there: tensors that lie on the processor and behave as if they lay elsewhere.

What mixes tensors of two devices, or forgets to move one, fails on a GPU alone, where tests seldom run. Under
:class:`Elsewhere` it fails here: tensors that are moved to :data:`DEVICE` are marked, what is computed with them is
marked too, and a computation with tensors of both kinds is refused, as CUDA would refuse it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

DEVICE = torch.device("privateuseone", 0)
# Indices may be on the processor, values may be moved between devices, and these only ask.
_MAY_MIX = {
    Tensor.__getitem__,
    Tensor.__setitem__,
    Tensor.copy_,
    Tensor.to,
    Tensor.type_as,
    torch._has_compatible_shallow_copy_type,
}
_MAKES_PLAIN = {Tensor.cpu, Tensor.numpy, Tensor.tolist}


class Marked(Tensor):
    """A tensor elsewhere."""


class Elsewhere(TorchFunctionMode):
    """The mode in which :data:`DEVICE` is there, for tensors and modules."""

    def __enter__(self) -> Elsewhere:
        # Modules that move take new parameters instead of new data for the old ones, which could not be marked.
        self._before = torch.__future__.get_overwrite_module_params_on_conversion()
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        return super().__enter__()

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        torch.__future__.set_overwrite_module_params_on_conversion(self._before)

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func == Tensor.device.__get__:
            return DEVICE if isinstance(args[0], Marked) else torch.device("cpu")
        if func is Tensor.__deepcopy__:
            return _copied(*args)
        tensors = list(_tensors((args, kwargs)))
        marked = [tensor for tensor in tensors if isinstance(tensor, Marked)]
        if func is Tensor.numpy and marked:
            raise TypeError("can't convert a tensor elsewhere to numpy: use Tensor.cpu() first")
        target = _device_asked_for(func, args, kwargs)
        if target is not None:
            args, kwargs = _on_the_processor(args), _on_the_processor(kwargs)
        elif marked and func not in _MAY_MIX:
            strangers = [t for t in tensors if not isinstance(t, Marked) and t.dim() > 0]
            if strangers:
                raise RuntimeError(f"{func.__name__}: expected all tensors on one device, found {DEVICE} and cpu")
        generator = kwargs.get("generator")
        there = target == DEVICE if target is not None else bool(marked) and func not in _MAKES_PLAIN
        if generator is not None and there:
            raise RuntimeError(f"{func.__name__}: expected a generator on {DEVICE}, got one on cpu")
        if func in (Tensor.to, Tensor.type_as) and target is None:
            reference = args[1] if len(args) > 1 else None
            there = isinstance(reference if isinstance(reference, Tensor) else args[0], Marked)
        if func in (Tensor.__getitem__, Tensor.__setitem__, Tensor.copy_):
            there = isinstance(args[0], Marked)
        with torch._C.DisableTorchFunctionSubclass():
            result = func(*args, **kwargs)
        return _wrap(result, there) if func is not Tensor.__setitem__ else result


def _copied(tensor: Tensor, memo: dict[int, Any]) -> Tensor:
    """A leaf's deep copy: PyTorch's own wants an empty tensor made, which says nothing of where it is."""
    with torch._C.DisableTorchFunctionSubclass(), torch.no_grad():
        copied = tensor.clone().as_subclass(Marked if isinstance(tensor, Marked) else Tensor)
    if isinstance(tensor, nn.Parameter):
        copied = nn.Parameter(copied, requires_grad=tensor.requires_grad)
    memo[id(tensor)] = copied
    return copied


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _tensors(part)
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _tensors(part)


def _device_asked_for(func: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> torch.device | None:
    """The device of a call that names one, as an argument or within ``Tensor.to``."""
    asked = kwargs.get("device")
    if asked is None and func in (Tensor.to, nn.Module.to):
        asked = next((arg for arg in args[1:] if isinstance(arg, (torch.device, str))), None)
    return None if asked is None else torch.device(asked)


def _on_the_processor(value: Any) -> Any:
    if isinstance(value, dict):
        named = {key: part for key, part in value.items() if key != "device"}
        return {key: _on_the_processor(part) for key, part in named.items()} | (
            {"device": "cpu"} if "device" in value else {}
        )
    if isinstance(value, tuple):
        return tuple(_on_the_processor(part) for part in value)
    return torch.device("cpu") if isinstance(value, torch.device) else value


def _wrap(value: Any, there: bool) -> Any:
    if isinstance(value, Tensor):
        if isinstance(value, Marked) == there:
            return value
        return value.as_subclass(Marked if there else Tensor)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_wrap(part, there) for part in value))
    if isinstance(value, (tuple, list)):
        return type(value)(_wrap(part, there) for part in value)
    return value
