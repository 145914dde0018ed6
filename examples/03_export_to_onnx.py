"""Export a cube with memory and answer two turns without this library: by onnxruntime and by torch.export.

    python examples/03_export_to_onnx.py [folder]

ONNX needs ``pip install cellgraph[onnx]``.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import onnxruntime
import torch

from cellgraph import CellGraph, GMLPCell, Lattice
from cellgraph.integrations.export import export_onnx, export_torch


def main(folder: str = ".") -> None:
    torch.manual_seed(0)
    cell = GMLPCell(Lattice((3, 8, 8)), channels=32, hidden=64, memory_channels=8)
    model = CellGraph(cell, in_features=96, surface_channels=2, num_steps=3).eval()
    # A new network changes nothing; one that has something to say shows more.
    torch.nn.init.normal_(cell.out_weight, std=0.05)
    for report in (export_onnx(model, Path(folder) / "cube.onnx"), export_torch(model, Path(folder) / "cube.pt2")):
        names = f"{', '.join(report.inputs)} -> {', '.join(report.outputs)}"
        print(f"{report.path.name}: {report.num_bytes / 1e6:.1f} MB, {names}, differs by {report.difference:.1e}")

    session = onnxruntime.InferenceSession(Path(folder) / "cube.onnx", providers=["CPUExecutionProvider"])
    program = torch.export.load(Path(folder) / "cube.pt2").module()
    turns = torch.nn.functional.normalize(torch.randn(2, 3, 96), dim=-1)
    eager = by_torch = torch.zeros(3, model.lattice.num_nodes, cell.memory_channels)
    by_onnx = eager.numpy()
    for number, question in enumerate(turns, start=1):
        with torch.no_grad():
            out = model(question, eager)
        answer, _, _, by_torch = program(question, by_torch)
        embedding, _, _, by_onnx = session.run(None, {"question": question.numpy(), "memory": by_onnx})
        eager = out.memory
        differences = [float((found - out.embedding).abs().max()) for found in (torch.as_tensor(embedding), answer)]
        print(f"turn {number}: onnxruntime differs by {differences[0]:.1e}, the torch program by {differences[1]:.1e}")

    inputs = {"question": turns[0].numpy(), "memory": by_onnx}
    for name, run in (("onnxruntime", lambda: session.run(None, inputs)), ("eager", lambda: model(turns[0], eager))):
        with torch.no_grad():
            run()
            start = time.perf_counter()
            for _ in range(5):
                run()
        print(f"{name}: {(time.perf_counter() - start) / 5 * 1e3:.1f} ms for 3 questions")


if __name__ == "__main__":
    main(*sys.argv[1:])
