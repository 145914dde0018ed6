"""The installed libraries whose documentation becomes the default set, and where in them to look."""

from __future__ import annotations

__all__ = ["COLLECTIONS", "COMPILED", "KNOWN_AS", "LIBRARIES", "SKIPPED_PARTS", "STANDARD_LIBRARY"]

#: Name of the standard library among the packages.
STANDARD_LIBRARY = "python"

#: Package -> (what people call it, the files and folders of it that are read; "" is the whole package).
LIBRARIES: dict[str, tuple[str, tuple[str, ...]]] = {
    "torch": (
        "PyTorch",
        (
            *("nn", "optim", "distributions", "autograd", "linalg", "fft", "special", "sparse", "amp", "signal"),
            *("utils/data", "utils/checkpoint.py", "profiler", "func", "nested", "cuda", "hub.py", "random.py"),
            *("serialization.py", "functional.py", "_torch_docs.py", "_tensor_docs.py", "_tensor.py", "futures"),
        ),
    ),
    "torch_geometric": ("PyTorch Geometric", ("",)),
    "transformers": (
        "Transformers",
        (
            *("generation", "data", "pipelines", "optimization.py", "trainer.py", "trainer_callback.py"),
            *("trainer_utils.py", "training_args.py", "configuration_utils.py", "tokenization_utils_base.py"),
            *("modeling_outputs.py", "modeling_utils.py", "cache_utils.py", "processing_utils.py"),
            *("feature_extraction_utils.py", "image_transforms.py", "image_utils.py", "audio_utils.py"),
            *("hf_argparser.py", "pytorch_utils.py", "utils/quantization_config.py", "utils/logging.py"),
        ),
    ),
    "sklearn": ("scikit-learn", ("",)),
    "scipy": ("SciPy", ("",)),
    "numpy": ("NumPy", ("",)),
    STANDARD_LIBRARY: (
        "Python",
        (
            *("argparse.py", "ast.py", "asyncio", "base64.py", "bisect.py", "calendar.py", "cmd.py"),
            *("code.py", "collections", "colorsys.py", "concurrent", "configparser.py", "contextlib.py"),
            *("contextvars.py", "copy.py", "csv.py", "ctypes", "dataclasses.py", "datetime.py", "_pydatetime.py"),
            *("decimal.py", "_pydecimal.py", "difflib.py", "dis.py", "doctest.py", "email", "enum.py", "filecmp.py"),
            *("fileinput.py", "fnmatch.py", "fractions.py", "ftplib.py", "functools.py", "getopt.py", "getpass.py"),
            *("gettext.py", "glob.py", "graphlib.py", "gzip.py", "hashlib.py", "heapq.py", "hmac.py", "html"),
            *("http", "imaplib.py", "importlib", "inspect.py", "io.py", "_pyio.py", "ipaddress.py", "json"),
            *("linecache.py", "locale.py", "logging", "lzma.py", "bz2.py", "mailbox.py", "mimetypes.py"),
            *("multiprocessing", "netrc.py", "numbers.py", "ntpath.py", "operator.py", "os.py", "pathlib.py"),
            *("pathlib", "pickle.py", "pkgutil.py", "platform.py", "plistlib.py", "poplib.py"),
            *("posixpath.py", "pprint.py", "profile.py", "pstats.py", "queue.py", "random.py", "re", "reprlib.py"),
            *("sched.py", "secrets.py", "selectors.py", "shelve.py", "shlex.py", "shutil.py", "signal.py"),
            *("smtplib.py", "socket.py", "socketserver.py", "sqlite3", "ssl.py", "stat.py", "statistics.py"),
            *("string.py", "string", "struct.py", "subprocess.py", "symtable.py", "sysconfig.py", "tarfile.py"),
            *("tempfile.py", "textwrap.py", "threading.py", "timeit.py", "tokenize.py", "trace.py"),
            *("traceback.py", "tracemalloc.py", "types.py", "typing.py", "unittest", "urllib", "uuid.py", "venv"),
            *("warnings.py", "wave.py", "weakref.py", "webbrowser.py", "xml", "zipfile.py", "zipfile"),
            *("zipapp.py", "zoneinfo"),
        ),
    ),
}

#: Folders and files that hold no documentation for users, or only that of names users do not write: the classes behind
#: the distributions of SciPy, the string functions of NumPy that share their names with the numeric ones.
SKIPPED_PARTS = {
    *("tests", "testing", "test", "externals", "distutils", "f2py", "_vendor", "graphgym", "datasets", "cli", "_lib"),
    *("_continuous_distns.py", "_discrete_distns.py", "_multivariate.py", "_distn_infrastructure.py"),
    *(
        "strings.py",
        "defchararray.py",
        "_codata.py",
        "_lebedev.py",
        "_utils",
        "_scimath_impl.py",
        "mstats_basic.py",
        "_mstats_basic.py",
    ),
    *("llm", "distributed", "contrib", "continuous_batching", "quantized", "qat", "intrinsic", "quantizable"),
    *(
        "testutils.py",
        "conftest.py",
        "gen_pyi.py",
        "idlelib",
        "dummy_pt_objects.py",
        "__main__.py",
        "_dtype.py",
        "array_api_extra",
    ),
}

#: Implementation modules of the standard library -> the names under which they are known.
KNOWN_AS = {"_pydatetime": "datetime", "_pydecimal": "decimal", "_pyio": "io", "posixpath": "os.path"}

#: Files made of documentation for many unrelated objects: there each object is a topic of its own.
COLLECTIONS = ("_torch_docs", "_tensor_docs", "_add_newdocs", "_add_newdocs_scalars")

#: Modules implemented in C: their objects are looked at, for there is no source file of them to read. All are small
#: and loaded by every interpreter or by NumPy.
COMPILED = {
    STANDARD_LIBRARY: ("builtins", "cmath", "gc", "itertools", "math", "operator", "sys", "time"),
    "numpy": ("numpy",),
}
