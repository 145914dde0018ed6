"""Serving: a run that is asked over HTTP, by programs and on a page; its modules need the extra ``serve``."""
