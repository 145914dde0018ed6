"""Metrics: what a server has done, in the text form that Prometheus reads."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

#: Seconds, from those of a question that finds a free machine to those of a full queue.
_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Counts for one server.

    Args:
        waiting: Gives the number of questions that wait.
    """

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, waiting: Callable[[], int]) -> None:
        self._registry = CollectorRegistry()
        own = {"registry": self._registry, "namespace": "cellgraph"}
        self._requests = Counter("requests", "Requests by path and status.", ["path", "status"], **own)  # type: ignore[arg-type]
        self._seconds = Histogram(
            "request_seconds",
            "From a request to the end of its response.",
            ["path"],
            buckets=_SECONDS,
            **own,  # type: ignore[arg-type]
        )
        self._sizes = Histogram("batch_size", "Questions worked on together.", buckets=_SIZES, **own)  # type: ignore[arg-type]
        self._work = Histogram("batch_seconds", "Work on a batch.", buckets=_SECONDS, **own)  # type: ignore[arg-type]
        Gauge("waiting", "Questions that wait.", **own).set_function(waiting)  # type: ignore[arg-type]

    def request(self, path: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(path, status).inc()
        self._seconds.labels(path).observe(seconds)

    def batch(self, size: int, seconds: float) -> None:
        """Count a batch."""
        self._sizes.observe(size)
        self._work.observe(seconds)

    def text(self) -> bytes:
        """All of it."""
        return generate_latest(self._registry)
