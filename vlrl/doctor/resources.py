"""Probes of the machine: room on disk and in memory, and the threads there are."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from vlrl.doctor.finding import Finding

# The quickstart on a CPU: an environment of 4 GB and a run of under 1; a trainer and vLLM beside it.
_DISK_GB, _MEMORY_GB, _SHARED_MB = 10, 4, 64


def disk() -> Finding:
    usage = shutil.disk_usage(Path.cwd())
    found = f"{usage.free / 1e9:.0f} of {usage.total / 1e9:.0f} GB free here"
    return _enough(usage.free / 1e9 >= _DISK_GB, found, f"free some: {_DISK_GB} GB are wanted")


def memory() -> Finding:
    """What can still be taken: the kernel's estimate, and the container's limit where it has one."""
    lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    free = int(lines["MemAvailable"].split()[0]) * 1024
    limit = _cgroup_memory()
    if limit is not None:
        free = min(free, limit)
    found = f"{free / 1e9:.0f} GB to be had, of {int(lines['MemTotal'].split()[0]) * 1024 / 1e9:.0f}"
    return _enough(free / 1e9 >= _MEMORY_GB, found, f"{_MEMORY_GB} GB are wanted")


def cpu() -> Finding:
    threads = len(os.sched_getaffinity(0))
    share = _cgroup_cpus()
    found = f"{threads}" if share is None else f"{threads}, of which this container may use {share:g}"
    return _enough(threads >= 2, found, "two are wanted: one for vLLM, one for the trainer")


def shared_memory() -> Finding:
    """Weights go to vLLM through /dev/shm; too small a one costs a detour over the temporary folder."""
    path = Path("/dev/shm")
    if not path.is_dir():
        return Finding("missing", "no /dev/shm", "in Docker: --shm-size=8g")
    free = shutil.disk_usage(path).free
    found = f"{free / 1e6:.0f} MB free in /dev/shm"
    return _enough(free / 1e6 > _SHARED_MB, found, "in Docker: --shm-size=8g")


def _enough(enough: bool, found: str, mend: str) -> Finding:
    return Finding("ok", found) if enough else Finding("broken", found, mend)


def _cgroup_memory() -> int | None:
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        path = Path("/sys/fs/cgroup") / name
        if path.is_file() and (text := path.read_text().strip()) != "max":
            return int(text)
    return None


def _cgroup_cpus() -> float | None:
    path = Path("/sys/fs/cgroup/cpu.max")
    if not path.is_file():
        return None
    quota, period = path.read_text().split()
    return None if quota == "max" else int(quota) / int(period)


LOOKS: dict[str, Callable[[], Finding]] = {look.__name__: look for look in (disk, memory, cpu, shared_memory)}
