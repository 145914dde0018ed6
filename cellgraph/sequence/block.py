"""The block: one link of a chain that a sequence goes through."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from cellgraph.nn.rebuilding import check_taken
from cellgraph.numbers import plain_numbers

#: Modules that hold the library's own blocks.
_MODULES = ("cubes", "mixing", "tokenizer")


class Block(nn.Module):
    """From a sequence to a sequence of the same width: whatever stands in a chain has this one form.

    A subclass names its ``kind`` and takes the width and, as keyword arguments, plain options, which it hands on here.

    Args:
        width: Features of a place of the sequence.
        options: The other arguments, as they were given.

    Shapes:
        - **x:** ``[batch, length, width]``, zero where the mask is false
        - **mask:** ``[batch, length]``, true where there is something
        - **output:** both again, the length perhaps another one, zero where the mask is false

    Attributes:
        capacity: The longest sequence that it takes; ``None`` where any.
        stride: How many places of the sequence become one.

    Raises:
        ValueError: If the width, or an option that is a whole number, is not positive.
    """

    #: The kinds of blocks by name.
    kinds: ClassVar[dict[str, type[Block]]] = {}
    kind: ClassVar[str] = ""
    capacity: int | None = None
    stride: int = 1

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cls.kind:
            Block.kinds[cls.kind] = cls

    @plain_numbers
    def __init__(self, width: int, **options: Any) -> None:
        # Counts and sizes all of them: without this a layer fails in its own way, or at the first call.
        for name, value in {"width": width, **options}.items():
            if isinstance(value, int) and value < 1:
                raise ValueError(f"{name} of a block {self.kind} must be positive, got {value}")
        super().__init__()
        self.width, self.options = width, options

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The sequence that follows."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        return ", ".join([f"width={self.width}", *(f"{name}={value}" for name, value in self.options.items())])


def built_blocks(width: int, blocks: Sequence[Mapping[str, Any]]) -> nn.ModuleList:
    """New blocks, one after the other.

    Args:
        width: Their width.
        blocks: For each its ``kind``, see :attr:`Block.kinds`, and beside it its options.

    Raises:
        ValueError: If a kind or an option is unknown, or a value is none that the block takes.

    Example:
        >>> built_blocks(8, [{"kind": "cct"}, {"kind": "transformer", "heads": 2}])[1].kind
        'transformer'
    """
    for name in _MODULES:
        importlib.import_module(f"cellgraph.sequence.{name}")
    if not isinstance(blocks, (list, tuple)) or not all(isinstance(block, Mapping) for block in blocks):
        raise ValueError(f"blocks must be a list of mappings with a kind, got {blocks!r}")
    made = []
    for block in blocks:
        options = dict(block)
        kind = options.pop("kind", None)
        if not isinstance(kind, str) or kind not in Block.kinds:
            raise ValueError(f"the kind of a block must be one of {', '.join(sorted(Block.kinds))}, got {kind!r}")
        check_taken(f"a block {kind}", Block.kinds[kind], options, given=("width",))
        made.append(Block.kinds[kind](width, **options))
    return nn.ModuleList(made)
