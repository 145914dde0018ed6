from .base import BaseTeacher
from .cache import EmbeddingCache, default_cache_folder
from .encoder import TransformersTeacher
from .job import EmbeddingJob
from .loading import load_teacher
from .lsa import LSATeacher
from .minilm import minilm_teacher
from .protocol import Teacher, check_teacher

__all__ = [
    "BaseTeacher",
    "EmbeddingCache",
    "EmbeddingJob",
    "LSATeacher",
    "Teacher",
    "TransformersTeacher",
    "check_teacher",
    "default_cache_folder",
    "load_teacher",
    "minilm_teacher",
]
