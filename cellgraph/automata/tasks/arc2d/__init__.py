"""The ARC-AGI-1: grids of colours."""
