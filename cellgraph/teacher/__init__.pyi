from .cache import EmbeddingCache, default_cache_folder
from .encoder import TransformersTeacher
from .loading import load_teacher
from .lsa import LSATeacher
from .minilm import minilm_teacher
from .protocol import Teacher

__all__ = [
    "EmbeddingCache",
    "LSATeacher",
    "Teacher",
    "TransformersTeacher",
    "default_cache_folder",
    "load_teacher",
    "minilm_teacher",
]
