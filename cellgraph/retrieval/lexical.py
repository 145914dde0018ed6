"""Lexical: retrieval by the words that a question and an answer share, without any training."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cellgraph.texts import word_pattern


class BM25:
    """Okapi BM25 over the words of answers, as `bm25s <https://arxiv.org/abs/2407.03618>`_ computes it.

    (Robertson and Zaragoza 2009, `doi 10.1561/1500000019 <https://doi.org/10.1561/1500000019>`_, in Lucene's form, with
    k1 = 1.5 and b = 0.75, English stop words left out.)

    Args:
        answers: Texts that are searched; how rare a word is, is counted in them.

    Example:
        >>> BM25(["The cat sat on a mat.", "Dogs bark."]).scores(["Where did the cat sit?"]).argmax(1)
        tensor([0])
    """

    def __init__(self, answers: Sequence[str]) -> None:
        import bm25s

        # It asks for its messages of every level to be shown, wherever there is a handler of the root's.
        logging.getLogger("bm25s").setLevel(logging.WARNING)
        self.count = len(answers)
        self.index: Any = None
        corpus = _words(answers)
        if any(corpus):
            self.index = bm25s.BM25(k1=1.5, b=0.75, method="lucene")
            self.index.index(corpus, show_progress=False)

    def __len__(self) -> int:
        return self.count

    def scores(self, questions: Sequence[str]) -> Tensor:
        """How well every answer fits every question.

        Shapes:
            - **output:** ``[num_questions, num_answers]``, 0 where no word is shared
        """
        scores = torch.zeros(len(questions), len(self))
        for row, found in zip(scores, _words(questions), strict=True):
            known = [word for word in found if self.index is not None and word in self.index.vocab_dict]
            if known:
                row.copy_(torch.from_numpy(self.index.get_scores(known)))
        return scores


def _words(texts: Sequence[str]) -> list[list[str]]:
    import bm25s

    # Of texts without such letters its own pattern finds the same.
    pattern = {} if all(text.isascii() for text in texts) else {"token_pattern": word_pattern(single=False)}
    return list(bm25s.tokenize(list(texts), stopwords="english", return_ids=False, show_progress=False, **pattern))
