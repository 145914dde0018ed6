"""The command as a module, as ``torchrun -m cellgraph`` and ``python -m cellgraph`` start it."""

from cellgraph.cli import main

if __name__ == "__main__":
    main()
