"""Huggingface: a cube as a model of transformers, so that it can sit as a layer inside another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from cellgraph.model import CellGraph
from cellgraph.older import upgraded
from cellgraph.pretrained import take_dtypes
from cellgraph.reading import faults

#: What an error says that a network is built of.
DESCRIBED = "the network of a CellGraphConfig"


class CellGraphConfig(PreTrainedConfig):
    """The configuration of a :class:`CellGraphModel`.

    Args:
        network: What :meth:`cellgraph.CellGraph.config` gives.
    """

    model_type = "cellgraph"

    network: dict[str, Any] | None = None

    @property
    def hidden_size(self) -> int:
        """Width of the vectors that go in and come out."""
        with faults(DESCRIBED):
            return int(upgraded(self.network or {})["in_features"])


@dataclass
class CellGraphModelOutput(ModelOutput):
    """What a :class:`CellGraphModel` returns.

    Attributes:
        last_hidden_state: The answers, in the shape of the questions.
        surface: What was extracted from the output surface, with a path what the query is there,
            ``[rows, surface_width]``.
        query: What is compared with keys to find answers, ``[rows, in_features]``.
        states: Final states of the cells, ``[rows, num_nodes, channels]``.
        memory: Memory for the next call, ``[rows, num_nodes, memory_channels]``, where the cell has one.
    """

    last_hidden_state: Tensor | None = None
    surface: Tensor | None = None
    query: Tensor | None = None
    states: Tensor | None = None
    memory: Tensor | None = None


class CellGraphModel(PreTrainedModel):
    """A :class:`~cellgraph.CellGraph` with the manners of transformers.

    It loads and saves like any other model there, alone or as a part, trains with the ``Trainer``, and is known to
    ``AutoModel`` once this module is imported. As a part missing from a checkpoint (a cube put into a model that was
    trained without one) it starts as the identity.

    Args:
        config: The configuration.

    Shapes:
        - **inputs_embeds:** ``[batch, hidden_size]``, or ``[batch, num_tokens, hidden_size]``: each token is a row
        - **output:** :class:`CellGraphModelOutput`

    Example:
        >>> from cellgraph import GMLPCell, Lattice
        >>> network = CellGraph(GMLPCell(Lattice((3, 4, 4)), 8, hidden=8), in_features=16, num_steps=4)
        >>> layer = CellGraphModel.from_network(network)
        >>> tokens = torch.randn(2, 5, 16)
        >>> torch.allclose(layer(tokens).last_hidden_state, tokens, atol=1e-4)
        True
    """

    config_class = CellGraphConfig
    base_model_prefix = "cellgraph"
    main_input_name = "inputs_embeds"

    def __init__(self, config: CellGraphConfig) -> None:
        super().__init__(config)
        if config.network is None:
            raise ValueError("CellGraphConfig(network=...) must be what CellGraph.config() gives, got none")
        self.network = _built(config.network)
        # Loading makes models without storage and fills them later; otherwise the network is whole by now.
        self.network._is_hf_initialized = not torch.empty(0).is_meta  # type: ignore[assignment]
        self.post_init()

    @classmethod
    def from_network(cls, network: CellGraph) -> CellGraphModel:
        """A model with a network's configuration and a copy of its weights: of their dtypes, frozen where they are, on
        its device, and in training or evaluation as the network is."""
        model, weights = cls(CellGraphConfig(network=network.config())), network.state_dict()
        take_dtypes(model.network, weights)
        model.network.load_state_dict(weights)
        for name, parameter in model.network.named_parameters():
            parameter.requires_grad_(network.get_parameter(name).requires_grad)
        return model.to(network.cell.device).train(network.training)

    def forward(
        self,
        inputs_embeds: Tensor,
        memory: Tensor | None = None,
        num_steps: int | None = None,
        output_states: bool = False,
    ) -> CellGraphModelOutput:
        """Send vectors through the cube.

        Args:
            inputs_embeds: The vectors.
            memory: What the call before returned as memory.
            num_steps: Steps of this call, see :class:`~cellgraph.CellGraph`.
            output_states: Also return the final state of all the cells.
        """
        out = self.network(inputs_embeds.flatten(0, -2), memory, num_steps=num_steps, states=output_states)
        return CellGraphModelOutput(
            last_hidden_state=out.embedding.view_as(inputs_embeds),
            surface=out.surface,
            query=out.query,
            states=out.states,
            memory=out.memory,
        )

    @torch.no_grad()
    def _initialize_weights(self, module: nn.Module, is_custom_code: bool = False) -> None:
        # Loading leaves all that is not in the checkpoint unset: missing weights and what follows from the lattice.
        # `_init_weights`, the usual hook, is not called for modules without parameters of their own.
        if module is not self.network or getattr(module, "_is_hf_initialized", False):
            return
        new = _built(self.config.network)
        for name, tensor in new.named_parameters():
            found = module.get_parameter(name)
            found.requires_grad_(tensor.requires_grad)
            if not getattr(found, "_is_hf_initialized", False):
                found.copy_(tensor)
        for name, buffer in new.named_buffers():
            module.get_buffer(name).copy_(buffer)
        module._is_hf_initialized = True  # type: ignore[assignment]


def _built(config: Mapping[str, Any]) -> CellGraph:
    """A network on the CPU, made in float32: transformers makes models without storage and in the saved precision,
    in which edges cannot be listed nor orthogonal matrices drawn."""
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with faults(DESCRIBED), torch.device("cpu"):
            return CellGraph.from_config(config).to(dtype)
    finally:
        torch.set_default_dtype(dtype)


AutoConfig.register("cellgraph", CellGraphConfig, exist_ok=True)
AutoModel.register(CellGraphConfig, CellGraphModel, exist_ok=True)
