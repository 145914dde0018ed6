"""Lexical: retrieval by the words that a question and an answer share, without any training."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import Tensor


def bm25_scores(questions: Sequence[str], answers: Sequence[str]) -> Tensor:
    """Okapi BM25 of every answer for every question, as `bm25s <https://arxiv.org/abs/2407.03618>`_ computes it.

    (Robertson and Zaragoza 2009, `doi 10.1561/1500000019 <https://doi.org/10.1561/1500000019>`_, in Lucene's form, with
    k1 = 1.5 and b = 0.75, English stop words left out.)

    Args:
        questions: Texts that ask.
        answers: Texts that are searched; how rare a word is, is counted in them.

    Shapes:
        - **output:** ``[num_questions, num_answers]``, 0 where no word is shared

    Example:
        >>> bm25_scores(["Where did the cat sit?"], ["The cat sat on a mat.", "Dogs bark."]).argmax(1)
        tensor([0])
    """
    import bm25s

    # It asks for its messages of every level to be shown, wherever there is a handler of the root's.
    logging.getLogger("bm25s").setLevel(logging.WARNING)

    told = {"stopwords": "english", "return_ids": False, "show_progress": False}
    words, corpus = bm25s.tokenize(list(questions), **told), bm25s.tokenize(list(answers), **told)
    scores = torch.zeros(len(questions), len(answers))
    if not any(corpus):
        return scores
    retriever = bm25s.BM25(k1=1.5, b=0.75, method="lucene")
    retriever.index(corpus, show_progress=False)
    for row, found in enumerate(words):
        known = [word for word in found if word in retriever.vocab_dict]
        if known:
            scores[row] = torch.from_numpy(retriever.get_scores(known))
    return scores
