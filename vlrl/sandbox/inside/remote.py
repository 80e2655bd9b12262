"""A candidate in one process, its tests in another: what is expected never is where the candidate could look.

The candidate's process answers calls until there are no more; the checker's process runs the tests, in
which `candidate` is a function that asks the other. Descriptors: requests arrive at 3 and replies leave at
4, or the other way round.
"""

import io
import os
from collections.abc import Callable
from typing import Any

from .values import dumps, loads

READ_FD, WRITE_FD = 3, 4


class CandidateError(Exception):
    """The candidate raised, or is gone."""


def serve(entry: str, namespace: dict[str, Any]) -> None:
    """Answer calls of the function that the expression `entry` names, until the other end closes."""
    requests, replies = _open()
    for line in requests:
        arguments, named = loads(line, namespace)
        # A fresh object a call, where the expression makes one.
        value = eval(entry, namespace)(*arguments, **named)
        replies.write(dumps(value) + "\n")
        replies.flush()


def proxy(namespace: dict[str, Any]) -> Callable[..., Any]:
    """A function that calls the other process's."""
    replies, requests = _open()

    def candidate(*arguments: Any, **named: Any) -> Any:
        try:
            requests.write(dumps((arguments, named)) + "\n")
            requests.flush()
            line = replies.readline()
        except BrokenPipeError:
            line = ""
        if not line.endswith("\n"):
            raise CandidateError("the candidate ended")
        return loads(line, namespace)

    return candidate


def _open() -> tuple[io.TextIOWrapper, io.TextIOWrapper]:
    return os.fdopen(READ_FD, "r", encoding="utf-8"), os.fdopen(WRITE_FD, "w", encoding="utf-8")
