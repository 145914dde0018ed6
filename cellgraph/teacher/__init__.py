"""Frozen text encoders, and a cache on disk of their embeddings."""

from cellgraph.teacher.cache import EmbeddingCache, default_cache_folder
from cellgraph.teacher.encoder import TransformersTeacher
from cellgraph.teacher.loading import load_teacher
from cellgraph.teacher.lsa import LSATeacher
from cellgraph.teacher.minilm import minilm_teacher
from cellgraph.teacher.protocol import Teacher

__all__ = [
    "EmbeddingCache",
    "LSATeacher",
    "Teacher",
    "TransformersTeacher",
    "default_cache_folder",
    "load_teacher",
    "minilm_teacher",
]
