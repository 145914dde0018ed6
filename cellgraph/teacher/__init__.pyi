from .base import BaseTeacher
from .cache import EmbeddingCache, default_cache_folder
from .encoder import TransformersTeacher
from .job import EmbeddingJob
from .loading import load_teacher
from .lsa import LSATeacher
from .minilm import minilm_teacher
from .protocol import Teacher, check_teacher
from .reader import TokenReader
from .rows import StoredRows
from .static import StaticTeacher
from .tfidf import TfidfTeacher
from .token_states import TokenStates

__all__ = [
    "BaseTeacher",
    "EmbeddingCache",
    "EmbeddingJob",
    "LSATeacher",
    "StaticTeacher",
    "StoredRows",
    "Teacher",
    "TfidfTeacher",
    "TokenReader",
    "TokenStates",
    "TransformersTeacher",
    "check_teacher",
    "default_cache_folder",
    "load_teacher",
    "minilm_teacher",
]
