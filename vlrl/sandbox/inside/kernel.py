"""System calls that Python has no function for."""

import ctypes
import os
import platform
import re
import struct

MACHINE = platform.machine()

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 24, 38

NAMESPACES = {
    "network": 0x40000000,
    "pid": 0x20000000,
    "ipc": 0x08000000,
    "uts": 0x04000000,
    "mount": 0x00020000,
}
NEW_USER = 0x10000000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
MNT_DETACH = 2

_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_CAPSET = {"x86_64": 126, "aarch64": 91}
_EXECVEAT = {"x86_64": 322, "aarch64": 281}
_AT_EMPTY_PATH = 0x1000
_CAPABILITY_VERSION_3 = 0x20080522

libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: object) -> int:
    """A libc function that returns -1 and sets errno where it fails.

    Raises:
        OSError: it failed.
    """
    result = int(getattr(libc, name)(*arguments))
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    """mount(2).

    Raises:
        OSError: refused.
    """
    kind_bytes = kind.encode() if kind else None
    flag_word = ctypes.c_ulong(flags)
    call("mount", source.encode(), target.encode(), kind_bytes, flag_word, options.encode() or None)


def pivot_root_here() -> None:
    """Make the working directory the root and let go of the old one."""
    call("syscall", _PIVOT_ROOT[MACHINE], b".", b".")
    call("umount2", b".", MNT_DETACH)
    os.chdir("/")


def drop_capabilities() -> None:
    """Give up every capability, for good."""
    for capability in range(64):
        if libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            break  # past the last that this kernel knows
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    call("syscall", _CAPSET[MACHINE], header, bytes(24))


def execute_descriptor(descriptor: int, arguments: object, environment: object) -> None:
    """Become the program in `descriptor`; returns only by raising.

    Raises:
        OSError: refused.
    """
    call("syscall", _EXECVEAT[MACHINE], descriptor, b"", arguments, environment, _AT_EMPTY_PATH)


def kernel_version() -> tuple[int, ...]:
    """Major and minor."""
    return tuple(int(number) for number in re.findall(r"\d+", os.uname().release)[:2])


def tasks_of(uid: int) -> int:
    """Threads that a user has, as far as this process sees them."""
    count = 0
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.stat(f"/proc/{name}").st_uid == uid:
                count += len(os.listdir(f"/proc/{name}/task"))
        except OSError:
            continue  # it has ended
    return count


def mapped_bytes() -> int:
    """Address space of this process."""
    with open("/proc/self/statm") as pages:
        return int(pages.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
