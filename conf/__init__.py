"""Hydra configurations, shipped as ``cellgraph.conf``: one group per module, same names."""
