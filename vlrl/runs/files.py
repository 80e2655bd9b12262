"""Writing files so that a kill or a full disk leaves the old content or the new, never half of one."""

import json
import math
import numbers
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vlrl.errors import DISK_FULL, UserError

_PROBE_BYTES = 1 << 20


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a scratch path to write; on success it is synced and takes the place of `path`.

    Raises:
        UserError: the disk is full (the old file stays, the scratch is removed).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.tmp")
    try:
        with disk_errors(path):
            yield scratch
            sync(scratch)
            scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replace a text file atomically."""
    with replacing(path) as scratch:
        # Text of models may hold lone surrogates, which UTF-8 has no bytes for.
        scratch.write_text(text, encoding="utf-8", errors="replace")


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file atomically; non-finite floats become null."""
    write_text(path, json.dumps(plain(value), indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Parse a JSON file.

    Raises:
        UserError: missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); restore the file") from None
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); restore or remove the file") from None


def plain(value: Any) -> Any:
    """A value in JSON's own types: numpy numbers unwrapped, non-finite floats as null."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    assert isinstance(value, numbers.Real), f"{type(value).__name__} has no place in JSON"
    number = float(value)
    return number if math.isfinite(number) else None


def sync(path: Path) -> None:
    """Flush a file or a folder's entries to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(root: Path) -> None:
    """`sync` for every file and folder at and below `root`."""
    for folder, _, names in os.walk(root):
        for name in names:
            sync(Path(folder, name))
        sync(Path(folder))


@contextmanager
def disk_errors(path: Path, aftermath: str = "free space and resume") -> Iterator[None]:
    """Turn a full disk met while writing `path` into one sentence that ends with `aftermath`."""
    try:
        yield
    except Exception as error:
        if is_disk_full(error, path.parent):
            raise UserError(f"disk full while writing {path}; {aftermath}") from error
        raise


def is_disk_full(error: BaseException, folder: Path) -> bool:
    """Whether `error` came of a full disk.

    torch.save and safetensors hide the errno: theirs is a RuntimeError of the zip writer, or the text of
    a Rust error. So the text is read too, and failing that a probe file is written.
    """
    if isinstance(error, UserError):
        return False
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in DISK_FULL
    if any(os.strerror(number) in str(error) for number in DISK_FULL):
        return True
    return _is_writer_error(error) and not _has_room(folder)


def _is_writer_error(error: BaseException) -> bool:
    return isinstance(error, (OSError, RuntimeError)) and any(
        words in str(error) for words in ("inline_container", "PytorchStreamWriter", "iostream")
    )


def _has_room(folder: Path) -> bool:
    probe = folder / ".probe"
    try:
        with probe.open("wb", buffering=0) as out:
            written = out.write(bytes(_PROBE_BYTES))
            os.fsync(out.fileno())
        return written == _PROBE_BYTES
    except OSError as error:
        return error.errno not in DISK_FULL
    finally:
        probe.unlink(missing_ok=True)
