"""SequenceGraph: a sequence goes through a chain of blocks, of which the cube may be one, to an answer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cellgraph.ends import check_fit, check_start
from cellgraph.model import CellGraphOutput
from cellgraph.nn import LinearPath, PCAAdapter
from cellgraph.numbers import plain_numbers
from cellgraph.precision import at_least_float32
from cellgraph.pretrained import Pretrained
from cellgraph.sequence.block import Block, built_blocks

#: What a sequence may be of.
OVER = ("tokens", "turns")
#: The widest surface, that of the headline cube.
SURFACE = 225


class SequenceGraph(Pretrained):
    r"""From the token states of a question, or from the turns of a dialogue, to an answer embedding.

    .. math::
        t = \mathrm{blocks}(E x), \qquad a = \mathrm{softmax}(g \cdot \mathrm{Norm}(t)), \qquad
        y = \mathrm{path}\Big(\sum_i a_i x_i\Big) + R \, \mathrm{Norm}\Big(\sum_i a_i t_i\Big)

    Over tokens, the weights a are sequence pooling (`Hassani et al. 2021 <https://arxiv.org/abs/2104.05704>`_, section
    3.2), of the tokens themselves as of what the blocks made of them; both g and R are zero when new, so that training
    starts from the linear map of the mean. Over turns, the path takes the question that is asked, and what the blocks
    made of the last place is read; the questions before it are the memory, handed in and returned. Answers are found
    and embedded as those of :class:`~cellgraph.CellGraph` with a path.

    Args:
        in_features: Width of the teacher's states.
        blocks: The chain: for each block its ``kind`` and options, see :class:`~cellgraph.sequence.Block`; none pools
            alone.
        width: Features of a place within the chain.
        over: ``"tokens"`` or ``"turns"``.
        key: See :class:`~cellgraph.nn.LinearPath`.
        surface_width: Width of the surface that stands for an answer, which the surface term of the objective compares;
            at most that of the headline cube by default.

    Shapes:
        - **question:** ``[batch, length, in_features]``, a token of zeros being padding; over turns ``[batch,
          in_features]``
        - **memory:** over turns ``[batch, turns before, in_features]``
        - **output:** :class:`~cellgraph.model.CellGraphOutput`, without states

    Attributes:
        capacity: The longest sequence that all blocks take; ``None`` where any.

    Raises:
        ValueError: If a block is unknown or a value out of range; by the call, if a sequence is too long.

    Example:
        >>> network = SequenceGraph([{"kind": "cct"}, {"kind": "cube", "shape": [2, 2, 4]}], in_features=16, width=8)
        >>> network(torch.randn(2, 8, 16)).query.shape, network.capacity
        (torch.Size([2, 16]), 8)
    """

    token_mean: Tensor
    token_scale: Tensor

    @plain_numbers
    def __init__(
        self,
        blocks: Sequence[Mapping[str, Any]],
        *,
        in_features: int,
        width: int = 64,
        over: str = "tokens",
        key: str = "linear",
        surface_width: int | None = None,
    ) -> None:
        super().__init__()
        if over not in OVER:
            raise ValueError(f"over must be one of {OVER}, got {over!r}")
        if width < 1:
            raise ValueError(f"width must be positive, got {width}")
        self.over, self.key_kind, self.width = over, key, width
        self.path = LinearPath(in_features, key=key)
        surface = min(in_features, SURFACE) if surface_width is None else surface_width
        self.answer_adapter = PCAAdapter(in_features, surface).requires_grad_(False)
        self.embed = nn.Linear(in_features, width)
        self.blocks = built_blocks(width, blocks)
        strides = {block.kind: block.stride for block in self.chain if block.stride > 1}
        if over == "turns" and strides:
            # The last place is read, and would stand for the last turn or for the one before it.
            raise ValueError(f"over turns no block may shorten the sequence, got strides {strides}")
        self.norm, self.pooled_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.gate = nn.Linear(width, 1, bias=False) if over == "tokens" else None
        self.readout = nn.Linear(width, in_features, bias=False)
        for zero in (self.readout, self.gate):
            if zero is not None:
                nn.init.zeros_(zero.weight)
        self.register_buffer("token_mean", torch.zeros(in_features))
        self.register_buffer("token_scale", torch.ones(()))

    @property
    def in_features(self) -> int:
        """Width of the states that go in and of the embeddings that come out."""
        return self.path.linear.in_features

    @property
    def chain(self) -> list[Block]:
        """The blocks."""
        return [block for block in self.blocks if isinstance(block, Block)]

    @property
    def capacity(self) -> int | None:
        """The longest sequence: what a block takes, times what those before it make one of."""
        longest = None
        for block in reversed(self.chain):
            longest = None if longest is None else longest * block.stride
            longest = min((one for one in (longest, block.capacity) if one is not None), default=None)
        return longest

    @property
    def remembers(self) -> bool:
        """Whether an answer depends on the turns before."""
        return self.over == "turns"

    def forward(
        self,
        question: Tensor,
        memory: Tensor | None = None,
        *,
        num_steps: int | None = None,
        generator: torch.Generator | None = None,
        states: bool = False,
        trajectory: bool = False,
    ) -> CellGraphOutput:
        """Answer a batch of questions.

        Args:
            question: Token states; over turns, embeddings.
            memory: Over turns, what the call before returned as memory.
            num_steps, generator, states, trajectory: Of a :class:`~cellgraph.CellGraph`; they mean nothing here.
        """
        if self.over == "turns":
            return self._answer_turn(question, memory)
        if not torch.compiler.is_compiling():
            if question.dim() != 3 or question.size(-1) != self.in_features:
                raise ValueError(f"question must be [batch, length, {self.in_features}], got {list(question.shape)}")
            if memory is not None:
                raise ValueError(f"a network over tokens has no memory, got one of shape {list(memory.shape)}")
            self._check_length(question.size(1))
        mask = present(question)
        made, there = self._mixed(question, mask)
        assert self.gate is not None
        logits = self.gate(self.norm(made)).squeeze(-1)
        # A shortened sequence weighs all the tokens that each of its places stands for.
        stride = math.prod(block.stride for block in self.chain)
        stretched = logits.repeat_interleave(stride, dim=1)[:, : question.size(1)]
        read = torch.einsum("bl,bld->bd", _weights(stretched, mask).to(question.dtype), question)
        features = torch.einsum("bl,bld->bd", _weights(logits, there).to(made.dtype), made)
        y = self.path(self.path.question(read)) + self.readout(self.pooled_norm(features))
        return self._output(self.path.question(mean_token(question)), y)

    def key(self, answer: Tensor) -> Tensor:
        """What queries are compared with to find answers, ``[..., in_features]`` as they are."""
        return self.path.key(answer)

    def target_surface(self, answer: Tensor) -> Tensor:
        """The surface that stands for an answer embedding: fixed, without gradient."""
        with torch.no_grad():
            return self.answer_adapter.encode(self.path.answer(answer))

    @torch.no_grad()
    def fit_adapters(self, question: Any, answer: Tensor, *, start: str = "identity") -> dict[str, float]:
        """Take means and scales from training pairs.

        Args:
            question: Training questions: token states, as of
                :class:`~cellgraph.teacher.TokenStates`, or embeddings, ``[num_pairs, in_features]``.
            answer: Their answers, ``[num_pairs, in_features]``.
            start: ``"identity"`` or ``"ridge"``, see :meth:`CellGraph.fit_adapters
                <cellgraph.CellGraph.fit_adapters>`.

        Raises:
            ValueError: As of a :class:`~cellgraph.CellGraph`.
        """
        check_start(start, self)
        check_fit(self, question, answer)
        pooled = question if isinstance(question, Tensor) else question.pooled()
        self.path.fit(pooled, answer)
        if start == "ridge":
            self.path.regress(pooled, answer)
        if isinstance(question, Tensor):
            self.token_mean.copy_(self.path.question_mean)
            self.token_scale.copy_(self.path.question_scale)
        else:
            mean, scale = question.moments()
            self.token_mean.copy_(mean)
            self.token_scale.copy_(scale)
        scaled = self.path.answer(answer)
        self.answer_adapter.fit(scaled)
        return {"answer_reconstruction_error": self.answer_adapter.reconstruction_error(scaled)}

    def compile_step(self, *, compiling: bool = True) -> None:
        """Make the steps of the cubes fast, in place."""
        for block in self.chain:
            getattr(block, "compile_step", lambda **_: None)(compiling=compiling)

    def with_blocks(self, blocks: Sequence[Mapping[str, Any]], *, width: int | None = None) -> SequenceGraph:
        """A new network with another chain, its path, scales and surfaces copies of this one's.

        Args:
            blocks: The chain.
            width: Its width, by default the same.
        """
        other = SequenceGraph.from_config(
            {**self.config(), "blocks": blocks, "width": self.width if width is None else width}
        )
        own = {name: value for name, value in self.state_dict().items() if name.split(".")[0] in _ENDS}
        other.load_state_dict(own, strict=False)
        return other

    def parameter_counts(self) -> dict[str, int]:
        """Number of parameters of the parts in use."""
        parts: dict[str, list[nn.Module]] = {"embed": [self.embed], "readout": [self.readout, self.pooled_norm]}
        if self.gate is not None:
            parts["gate"] = [self.gate, self.norm]
        for block in self.chain:
            parts.setdefault(block.kind, []).append(block)
        parts |= {name: list(found) for name, found in self.path.parts().items()}
        return {name: sum(p.numel() for part in found for p in part.parameters()) for name, found in parts.items()}

    def config(self) -> dict[str, Any]:
        """All that it takes to build the network again, as plain types."""
        return {
            "blocks": [{"kind": block.kind, **block.options} for block in self.chain],
            "in_features": self.in_features,
            "width": self.width,
            "over": self.over,
            "key": self.key_kind,
            "surface_width": self.answer_adapter.out_features,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> SequenceGraph:
        """A new network from what :meth:`config` gave."""
        return cls(**config)

    def _answer_turn(self, question: Tensor, memory: Tensor | None) -> CellGraphOutput:
        if not torch.compiler.is_compiling():
            width = self.in_features
            if question.dim() != 2 or question.size(-1) != width:
                raise ValueError(f"over turns a question must be [batch, {width}], got {list(question.shape)}")
            if memory is not None and (memory.dim() != 3 or memory.shape[::2] != question.shape):
                raise ValueError(
                    f"memory must be [{len(question)}, turns before, {width}] here, got {list(memory.shape)}"
                )
        history = question[:, None] if memory is None else torch.cat([memory.to(question), question[:, None]], 1)
        if self.capacity is not None:
            history = history[:, -self.capacity :]
        made, _ = self._mixed(history, torch.ones(history.shape[:2], dtype=torch.bool, device=history.device))
        z = self.path.question(question)
        output = self._output(z, self.path(z) + self.readout(self.pooled_norm(made[:, -1])))
        output.memory = history
        return output

    def _mixed(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        scaled = ((x - self.token_mean) / self.token_scale).to(self.embed.weight.dtype)
        made = self.embed(scaled) * mask[..., None]
        for block in self.chain:
            made, mask = block(made, mask)
        return made, mask

    def _output(self, z: Tensor, y: Tensor) -> CellGraphOutput:
        return CellGraphOutput(embedding=self.path.embedding(z, y), surface=self.answer_adapter.encode(y), query=y)

    def _check_length(self, length: int) -> None:
        if not length:
            raise ValueError("a sequence must have a token at least, got none")
        if self.capacity is not None and length > self.capacity:
            raise ValueError(f"the blocks take {self.capacity} tokens, got {length}: give max_tokens, or stream them")


#: What chains of different blocks share.
_ENDS = {"path", "answer_adapter", "token_mean", "token_scale"}


def present(tokens: Tensor) -> Tensor:
    """Which of some tokens are there, ``[..., length]``: padding is a token of zeros."""
    return tokens.any(-1)


def mean_token(tokens: Tensor) -> Tensor:
    """The mean of the tokens that are there, ``[..., in_features]`` of ``[..., length, in_features]``."""
    return tokens.sum(-2) / present(tokens).sum(-1, keepdim=True).clamp_min(1).to(tokens.dtype)


def _weights(logits: Tensor, mask: Tensor) -> Tensor:
    # Not minus infinity: where nothing is there, weights are to be numbers.
    return F.softmax(at_least_float32(logits).masked_fill(~mask, -1e4), dim=1)
