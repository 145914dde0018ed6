"""Benchmarks: one module a question, run as ``cellgraph bench QUESTION`` on the user's own machine."""
