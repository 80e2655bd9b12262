"""The interpreter that programs run under: one that everyone can read, since they run as nobody."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

from vlrl.config.sandbox import SandboxConfig
from vlrl.errors import UserError

_OLDEST = (3, 11)
_ASK = "import json, sys, sysconfig; print(json.dumps([*sys.version_info[:2], sysconfig.get_path('stdlib')]))"


def find_interpreter(config: SandboxConfig) -> tuple[str, list[str]]:
    """The interpreter's path, and the folders it reads that are no part of the system's.

    Raises:
        UserError: the config's, or every one that was looked at, cannot serve.
    """
    candidates = [config.python] if config.python else [sys.executable, "/usr/bin/python3"]
    reasons = []
    for candidate in candidates:
        path = os.path.realpath(candidate)
        reason, folders = _examine(path)
        if not reason:
            return path, folders
        reasons.append(f"{path} {reason}")
    raise UserError(
        f"no interpreter for the sandbox ({'; '.join(reasons)}); set sandbox.python to a Python of at least "
        f"{_OLDEST[0]}.{_OLDEST[1]} that every user can read"
    )


def _examine(path: str) -> tuple[str, list[str]]:
    """What speaks against an interpreter ("" for nothing), and the folders that it reads."""
    if not os.path.isfile(path):
        return "is not there", []
    if not readable_by_all(path):
        return "cannot be read by other users", []
    command = [path, "-S", "-s", "-E", "-c", _ASK]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True, env={})
        major, minor, library = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return f"does not run ({type(error).__name__})", []
    if (major, minor) < _OLDEST:
        return f"is Python {major}.{minor}", []
    if not readable_by_all(library):
        return f"has its library where other users cannot read it ({library})", []
    folder = str(Path(library).parent)  # the prefix above it may be a home, or /
    return "", [] if folder.startswith("/usr/") else [folder]


def readable_by_all(path: str) -> bool:
    """Whether a user who owns nothing can read `path`."""
    if os.getuid() != 0:
        return os.access(path, os.R_OK)
    place = Path(path)
    folders = [place, *place.parents] if place.is_dir() else list(place.parents)
    modes = [folder.stat().st_mode for folder in folders]
    return bool(place.stat().st_mode & stat.S_IROTH) and all(mode & stat.S_IXOTH for mode in modes)
