"""The neighbour sum and the gated step as Triton kernels, for GPUs."""
