"""The errors a person reads.

`UserError` is the user's to mend: the command line prints its one sentence and exits with 2.
`WaitTimeout` is a deadline that passed; it says what was waited for and for how long (exit code 3).
`EngineError` is an engine or a process of it that failed; it names the log (exit code 4).
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class UserError(Exception):
    """One sentence naming the file, row or key, and the fix."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the operating system has against writing `path` into one sentence."""
    try:
        yield
    except OSError as error:
        if error.errno in DISK_FULL:
            raise UserError(
                f"disk full while writing {path}; free space and run the command again"
            ) from error
        reason = error.strerror or str(error)
        raise UserError(f"{path}: cannot be written ({reason}); choose another place or mend it") from error


class WaitTimeout(RuntimeError):
    """A wait that outlived its deadline."""

    def __init__(self, waited_for: str, seconds: float) -> None:
        super().__init__(f"waited {seconds:.0f} s for {waited_for}")
        self.waited_for = waited_for
        self.seconds = seconds


class EngineError(Exception):
    """One sentence on which engine failed, how, and the log that says why."""
