"""Checkpoint folders that are whole or absent.

A checkpoint is written into a hidden scratch folder, synced, and renamed to `step_000030`; only then are
old ones removed (renamed first, so a half-removed one is never taken for a checkpoint). What a killed
save or removal left behind goes at the next `remove_leftovers`.
"""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from vlrl.errors import UserError
from vlrl.runs.files import is_disk_full, sync, sync_tree

_NAME = re.compile(r"step_(\d{6,})")
_SAVING, _REMOVING = ".saving_", ".removing_"


class Checkpoint(NamedTuple):
    """A committed checkpoint: the number of finished steps and its folder."""

    step: int
    path: Path


def list_checkpoints(directory: Path) -> list[Checkpoint]:
    """The committed checkpoints, oldest first; none if the folder does not exist."""
    if not directory.is_dir():
        return []
    named = ((_NAME.fullmatch(path.name), path) for path in directory.iterdir() if path.is_dir())
    return sorted(Checkpoint(int(match[1]), path) for match, path in named if match)


def latest_checkpoint(directory: Path) -> Checkpoint | None:
    """The newest committed checkpoint."""
    return max(list_checkpoints(directory), default=None)


def remove_leftovers(directory: Path) -> list[Path]:
    """Remove what killed saves and removals left; only the run's owner may call it."""
    leftovers = [*directory.glob(f"{_SAVING}*"), *directory.glob(f"{_REMOVING}*")]
    for path in leftovers:
        shutil.rmtree(path)
    return leftovers


@contextmanager
def save_checkpoint(directory: Path, step: int, keep: int) -> Iterator[Path]:
    """Yield an empty scratch folder; commit it as the checkpoint of `step` when the block succeeds.

    Keeps the `keep` newest checkpoints. One process opens this; other ranks may write into the same
    scratch folder meanwhile. If the block or the commit fails, the scratch folder is removed and earlier
    checkpoints are untouched.

    Raises:
        UserError: the disk is full, or the operating system refused a write.
    """
    assert keep > 0
    target = directory / f"step_{step:06d}"
    assert not target.exists(), f"{target} is already committed"
    scratch = directory / f"{_SAVING}{target.name}"
    if scratch.exists():
        shutil.rmtree(scratch)
    try:
        scratch.mkdir(parents=True)
        yield scratch
        sync_tree(scratch)
        scratch.rename(target)
        sync(directory)
    except BaseException as error:
        full = isinstance(error, Exception) and is_disk_full(error, directory)
        shutil.rmtree(scratch, ignore_errors=True)
        kept = _describe_latest(directory)
        if full:
            message = f"disk full while writing {target}; {kept}; free space and resume"
            raise UserError(message) from error
        if isinstance(error, OSError):
            message = f"cannot write {target} ({error.strerror or error}); {kept}"
            raise UserError(message) from error
        error.add_note(f"while writing {target}; {kept}")
        raise
    _prune(directory, keep)


def _describe_latest(directory: Path) -> str:
    latest = latest_checkpoint(directory)
    return f"the checkpoint of step {latest.step} is intact" if latest else "there is no earlier checkpoint"


def _prune(directory: Path, keep: int) -> None:
    for old in list_checkpoints(directory)[:-keep]:
        hidden = directory / f"{_REMOVING}{old.path.name}"
        old.path.rename(hidden)
        shutil.rmtree(hidden)
