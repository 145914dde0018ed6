"""Train a small cube on pairs of your own, from Python, and compare it with ridge regression and the other baselines.

The pairs come from NumPy's and SciPy's documentation; the teacher is TF-IDF with a truncated SVD, so nothing is
downloaded. Put ``PairDataset.read("my.csv", teacher="minilm")`` in their place for a file of questions and answers.

    python examples/02_train_on_your_own_pairs.py
"""

from __future__ import annotations

from cellgraph import Lattice, PairDataset, PairModel
from cellgraph.data import docstring_pairs


def main() -> None:
    pairs = docstring_pairs(limit=900, packages=["numpy", "scipy"])
    data = PairDataset.of(pairs, teacher="lsa").split(test=200, validation=100)
    model = PairModel(data, Lattice((3, 5, 5)), num_steps=2)
    # Compiled steps are faster, after the minutes that compiling takes.
    model.fit(max_steps=100, batch_size=32, compile=False)
    print(model.evaluate())


if __name__ == "__main__":
    main()
