"""The layers around a program, put on by the process that starts it, outermost first."""

import ctypes
import os
import resource
import stat
import struct
from collections.abc import Sequence

from .filter import Filter, supported
from .kernel import (
    MS_BIND,
    MS_NODEV,
    MS_NOSUID,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    NAMESPACES,
    NEW_USER,
    PR_SET_DUMPABLE,
    PR_SET_NO_NEW_PRIVS,
    call,
    drop_capabilities,
    libc,
    mount,
    pivot_root_here,
)

DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")
SYSTEM = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache")
SCRATCH = "/scratch"

_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_EXECUTE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 2, 1 << 3
# Rights that each version of Landlock can take away: files, network, and signals and abstract sockets.
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 5: 16}
_NETWORK_VERSION, _SCOPE_VERSION = 4, 6


def become_user(uid: int) -> bool:
    """Leave root for `uid`, for good. False where this process is not root."""
    if os.getuid() != 0:
        return False
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    assert os.getresuid() == (uid, uid, uid)
    return True


def forbid_new_privileges() -> None:
    """No set-user-id program gives anything back."""
    call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def enter_namespaces() -> list[str]:
    """New user, network, process, ipc, host-name and mount namespaces, as far as the kernel grants them.

    The process namespace holds what is forked from here on. Single-threaded processes only.
    """
    uid, gid = os.getuid(), os.getgid()
    call("prctl", PR_SET_DUMPABLE, 1, 0, 0, 0)  # else /proc/self is root's after a change of user
    if libc.unshare(NEW_USER) != 0:
        return []
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    return ["user", *(name for name, flag in NAMESPACES.items() if libc.unshare(flag) == 0)]


def change_root(paths: Sequence[str], scratch_mb: int = 0) -> bool:
    """A root of its own in which nothing exists but `paths`, read-only. Needs the mount namespace.

    With `scratch_mb`, there is a folder in memory of that size to write to.
    """
    base = "/tmp"
    try:
        mount("none", "/", None, MS_REC | MS_PRIVATE)
        # Opened first: some may lie below the base.
        places = [(path, os.open(path, os.O_PATH | os.O_NOFOLLOW)) for path in paths]
        mount("tmpfs", base, "tmpfs", MS_NOSUID | MS_NODEV, "size=64k,mode=755")
        for path, place in places:
            _show(path, place, base)
            os.close(place)
        if scratch_mb:
            os.mkdir(base + SCRATCH)
            mount("tmpfs", base + SCRATCH, "tmpfs", MS_NOSUID | MS_NODEV, f"size={scratch_mb}m,mode=700")
        mount("none", base, None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV)
        os.chdir(base)
        pivot_root_here()
    except OSError:
        return False
    return True


def _show(path: str, place: int, base: str) -> None:
    target = base + path
    os.makedirs(os.path.dirname(target), exist_ok=True)
    mode = os.fstat(place).st_mode
    if stat.S_ISLNK(mode):
        os.symlink(os.readlink("", dir_fd=place), target)
        return
    if stat.S_ISDIR(mode):
        os.makedirs(target, exist_ok=True)
    else:
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY))
    mount(f"/proc/self/fd/{place}", target, None, MS_BIND | MS_REC)
    # Flags that the mount has already may not be taken away in a user namespace.
    kept = os.statvfs(place).f_flag & ~MS_RDONLY
    mount("none", target, None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | kept)


def lock_files(paths: Sequence[str], scratch: str | None = None) -> int:
    """Landlock: `paths` can be read, nothing else, and nothing written; no TCP, no signals to outside.

    With `scratch`, everything may be done in that folder, and programs in `paths` may be started.

    Returns:
        The kernel's version of Landlock; 0 where there is none.
    """
    version = int(libc.syscall(_LANDLOCK_CREATE, None, 0, 1))
    if version < 1:
        return 0
    bits = max(count for since, count in _FILE_RIGHTS.items() if since <= version)
    network = 3 if version >= _NETWORK_VERSION else 0
    scope = 3 if version >= _SCOPE_VERSION else 0
    attributes = struct.pack("QQQ", (1 << bits) - 1, network, scope)
    size = 24 if scope else 16 if network else 8
    rules = call("syscall", _LANDLOCK_CREATE, attributes, size, 0)
    for path in (*paths, *([scratch] if scratch else [])):
        rights = _READ_FILE | (_READ_DIR if os.path.isdir(path) else 0) | (_EXECUTE if scratch else 0)
        rights = (1 << bits) - 1 if path == scratch else rights
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        call("syscall", _LANDLOCK_ADD, rules, 1, struct.pack("=Qi", rights, place), 0)
        os.close(place)
    call("syscall", _LANDLOCK_RESTRICT, rules, 0)
    os.close(rules)
    return version


def give_up_powers() -> None:
    """No capabilities, and nobody of the same user may look into this process."""
    drop_capabilities()
    call("prctl", PR_SET_DUMPABLE, 0, 0, 0, 0)


def filter_holds(program: Filter) -> bool:
    """Whether a process under the filter is refused a socket, tried on a child."""
    if not supported():
        return False
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            program.install()
            status = 0 if libc.socket(1, 1, 0) == -1 and ctypes.get_errno() == 1 else 2
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def limit(memory_bytes: int, cpu_s: int, file_bytes: int, processes: int) -> None:
    """Resource limits of the running process, hard. `processes` counts threads, and whatever else the
    kernel counts against this user.
    """
    limits = {
        resource.RLIMIT_AS: memory_bytes,
        resource.RLIMIT_CPU: cpu_s,
        resource.RLIMIT_FSIZE: file_bytes,
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_SIGPENDING: 64,
        resource.RLIMIT_NPROC: processes,
    }
    for kind, value in limits.items():
        hard = resource.getrlimit(kind)[1]  # not to be raised
        least = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (least, least))
