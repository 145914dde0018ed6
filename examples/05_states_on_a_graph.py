"""The states of a cube on PyG graphs: loader, transforms, networkx, and which edges an answer hangs on.

python examples/05_states_on_a_graph.py
"""

from __future__ import annotations

import networkx as nx
import torch
import torch_geometric.transforms as T
from torch_geometric.loader import DataLoader
from torch_geometric.utils import to_networkx

from cellgraph import CellGraph, GMLPCell, Lattice
from cellgraph.integrations.graph import edge_influence, from_data, lattice_from_data, to_data


def main() -> None:
    torch.manual_seed(0)
    lattice = Lattice((5, 6, 6))
    model = CellGraph(GMLPCell(lattice, channels=8, hidden=16), in_features=36, surface_channels=1, num_steps=6).eval()
    question = torch.nn.functional.normalize(torch.randn(4, 36), dim=1)
    with torch.no_grad():
        output = model(question, trajectory=True)
    graphs = to_data(model, output, edge_influence=edge_influence(model, question))
    print(graphs[0])

    for batch in DataLoader(graphs, batch_size=2):
        back = from_data(batch)
        print(f"a batch of {batch.num_graphs}: {batch.num_nodes} nodes, states again {list(back.states.shape)}")
    print("the lattice again:", lattice_from_data(graphs[0]))

    data = T.Cartesian(norm=False, cat=False)(graphs[0].clone())
    influence = graphs[0].edge_attr[:, 0]
    print("\ninfluence on the length of the answer, by where the neighbour lies")
    for direction, offset in enumerate(lattice.offsets):
        chosen = graphs[0].edge_direction == direction
        step = data.edge_attr[chosen][0].int().tolist()
        print(f"{offset!s:>11}: mean {float(influence[chosen].mean()):+.5f} (towards the cell: {step})")

    graph = to_networkx(graphs[0], edge_attrs=["edge_attr"])
    ends = [int(mask.nonzero()[0]) for mask in (graphs[0].input_mask, graphs[0].output_mask)]
    print(f"\nnetworkx: {graph}; {nx.shortest_path_length(graph, *ends)} hops from corner to corner of the two faces")


if __name__ == "__main__":
    main()
