from .block import Block, built_blocks
from .cubes import StreamCube, TokenCube
from .feedforward import CubeFeedForward
from .layouts import ORDERS, layout
from .mixing import Convolution, Mamba, Perceptron, Recurrence, Transformer, Window
from .network import SequenceGraph, mean_token
from .tokenizer import ConvTokenizer

__all__ = [
    "ORDERS",
    "Block",
    "ConvTokenizer",
    "Convolution",
    "CubeFeedForward",
    "Mamba",
    "Perceptron",
    "Recurrence",
    "SequenceGraph",
    "StreamCube",
    "TokenCube",
    "Transformer",
    "Window",
    "built_blocks",
    "layout",
    "mean_token",
]
