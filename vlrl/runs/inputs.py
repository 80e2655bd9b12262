"""Digests of what a run was begun with: a resumed run must find the same rows, images and weights."""

import hashlib
import json
import struct
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from vlrl.errors import UserError
from vlrl.schema import Conversation
from vlrl.trajectory import Prompt

_SMALL = 64 << 20  # bytes; larger weight files are known by their size and header


def rows_digest(rows: Iterable[Conversation | Prompt]) -> str:
    """SHA-256 of rows: their text, and their images by content."""
    digest = hashlib.sha256()
    for row in rows:
        tree = asdict(row) | {"images": [image.sha256 for image in row.images]}
        tree.pop("where", None)  # the same row in a file that was moved is the same row
        digest.update(json.dumps(tree, sort_keys=True, default=str).encode(errors="replace"))
    return digest.hexdigest()


def file_digest(path: str) -> str:
    """SHA-256 of a small file.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return hashlib.sha256(Path(path).expanduser().read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); correct the path") from None


def checkpoint_digests(path: str) -> dict[str, str]:
    """SHA-256 by file name of what tells a local checkpoint from another; none for a hub id.

    Covers the config, the index and every small weight file, and size and header of large ones.
    """
    folder = Path(path)
    patterns = ("config.json", "*.index.json", "*.safetensors")
    return {file.name: _digest(file) for pattern in patterns for file in sorted(folder.glob(pattern))}


def _digest(file: Path) -> str:
    size = file.stat().st_size
    digest = hashlib.sha256(f"{size} ".encode())
    with file.open("rb") as stream:
        digest.update(stream.read(size if size <= _SMALL else _header_bytes(stream.read(8))))
    return digest.hexdigest()


def _header_bytes(start: bytes) -> int:
    """Length of a safetensors header, which its first eight bytes say."""
    return min(struct.unpack("<Q", start)[0], _SMALL) if len(start) == 8 else 0
