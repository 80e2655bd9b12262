"""The seccomp filter: every system call that is not listed is refused."""

import ctypes
import errno
import os
import signal
import struct
from collections.abc import Sequence

from .kernel import MACHINE, PR_SET_SECCOMP, call

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_TABLES = {
    "x86_64": (
        "read=0 write=1 readv=19 writev=20 pread64=17 pwrite64=18 lseek=8 close=3 fstat=5 "
        "newfstatat=262 stat=4 lstat=6 openat=257 open=2 access=21 faccessat=269 faccessat2=439 "
        "readlink=89 readlinkat=267 getcwd=79 getdents64=217 getdents=78 statx=332 dup=32 dup2=33 "
        "dup3=292 mmap=9 munmap=11 mremap=25 mprotect=10 madvise=28 brk=12 rt_sigaction=13 "
        "rt_sigprocmask=14 rt_sigreturn=15 rt_sigpending=127 sigaltstack=131 futex=202 "
        "set_robust_list=273 rseq=334 set_tid_address=218 gettid=186 getpid=39 "
        "getppid=110 getuid=102 geteuid=107 getgid=104 getegid=108 getgroups=115 getresuid=118 "
        "getresgid=120 getpgrp=111 getpgid=121 getsid=124 sched_yield=24 sched_getaffinity=204 "
        "getcpu=309 nanosleep=35 clock_nanosleep=230 clock_gettime=228 clock_getres=229 "
        "gettimeofday=96 time=201 times=100 getrusage=98 sysinfo=99 uname=63 getrandom=318 exit=60 "
        "exit_group=231 pipe=22 pipe2=293 poll=7 ppoll=271 select=23 pselect6=270 epoll_create1=291 "
        "epoll_create=213 epoll_ctl=233 epoll_wait=232 epoll_pwait=281 eventfd2=290 recvfrom=45 "
        "getrlimit=97 setitimer=38 getitimer=36 alarm=37 pause=34 arch_prctl=158 restart_syscall=219 "
        "chdir=80 fchdir=81 umask=95 shutdown=48 getsockopt=55 clone=56 clone3=435 fcntl=72 ioctl=16 "
        "socketpair=53 sendto=44 prlimit64=302 tgkill=234 execveat=322 "
    ),
    "aarch64": (
        "read=63 write=64 readv=65 writev=66 pread64=67 pwrite64=68 lseek=62 close=57 fstat=80 "
        "newfstatat=79 openat=56 faccessat=48 faccessat2=439 readlinkat=78 getcwd=17 getdents64=61 "
        "statx=291 dup=23 dup3=24 mmap=222 munmap=215 mremap=216 mprotect=226 madvise=233 brk=214 "
        "rt_sigaction=134 rt_sigprocmask=135 rt_sigreturn=139 rt_sigpending=136 sigaltstack=132 "
        "futex=98 set_robust_list=99 rseq=293 set_tid_address=96 gettid=178 "
        "getpid=172 getppid=173 getuid=174 geteuid=175 getgid=176 getegid=177 getgroups=158 "
        "getresuid=148 getresgid=150 getpgid=155 getsid=156 sched_yield=124 sched_getaffinity=123 "
        "getcpu=168 nanosleep=101 clock_nanosleep=115 clock_gettime=113 clock_getres=114 "
        "gettimeofday=169 times=153 getrusage=165 sysinfo=179 uname=160 getrandom=278 exit=93 "
        "exit_group=94 pipe2=59 ppoll=73 pselect6=72 epoll_create1=20 epoll_ctl=21 epoll_pwait=22 "
        "eventfd2=19 recvfrom=207 getrlimit=163 setitimer=103 getitimer=102 restart_syscall=128 "
        "chdir=49 fchdir=50 umask=166 shutdown=210 getsockopt=209 clone=220 clone3=435 fcntl=25 "
        "ioctl=29 socketpair=199 sendto=206 prlimit64=261 tgkill=131 execveat=281 "
    ),
}
# What a compiler needs beside.
_BUILD_TABLES = {
    "x86_64": (
        "execve=59 fork=57 vfork=58 wait4=61 waitid=247 unlink=87 unlinkat=263 rename=82 renameat=264 "
        "renameat2=316 mkdir=83 mkdirat=258 rmdir=84 ftruncate=77 fallocate=285 chmod=90 fchmod=91 "
        "fchmodat=268 fadvise64=221 copy_file_range=326 sendfile=40 fsync=74 utimensat=280 "
    ),
    "aarch64": (
        "execve=221 wait4=260 waitid=95 unlinkat=35 renameat=38 renameat2=276 mkdirat=34 ftruncate=46 "
        "fallocate=47 fchmod=52 fchmodat=53 fadvise64=223 copy_file_range=285 sendfile=71 fsync=82 "
        "utimensat=88 "
    ),
}
_BUILD_FREE = frozenset(("open", "openat"))
# These look at their arguments, below; all others in the table are allowed as they are.
_SPECIAL = frozenset(
    ("clone", "clone3", "fcntl", "ioctl", "open", "openat", "socketpair", "sendto", "prlimit64", "tgkill")
) | {"execveat"}
_X32 = 0x40000000

_LOAD, _AND, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
_ALLOW, _KILL = 0x7FFF0000, 0x80000000
_THREAD_FLAGS = 0x00010900  # CLONE_THREAD | CLONE_SIGHAND | CLONE_VM
_NEW_NAMESPACES = 0x7E020080
_WRITING = 0o1 | 0o2 | 0o100 | 0o1000  # O_WRONLY, O_RDWR, O_CREAT, O_TRUNC
_FCNTL_COMMANDS = (0, 1, 2, 3, 4, 1030)  # duplicate, descriptor flags, status flags: no owner, no signal
_IOCTL_REQUESTS = (0x5421, 0x5450, 0x5451)  # non-blocking and close-on-exec flags
_SECCOMP_MODE_FILTER, _AF_UNIX, _AT_EMPTY_PATH = 2, 1, 0x1000
_OWN_PID = 0xFFFFFFFF  # replaced by the process id of whoever installs the filter

_Instruction = tuple[int, int, int, int]


class Filter:
    """A compiled filter.

    With `exec_fd`, execveat of that descriptor is allowed, and of nothing else. With `build`, processes may
    be started and files written, as far as other layers let them.
    """

    def __init__(self, exec_fd: int | None = None, build: bool = False) -> None:
        program = _program(exec_fd, build)
        self._pids = [i for i, line in enumerate(program) if line[3] == _OWN_PID]
        # Made once: whatever a fresh fork allocates or touches is a page that the kernel copies for it.
        code = b"".join(struct.pack("=HBBI", *line) for line in program)
        self._code = ctypes.create_string_buffer(code, len(code))
        self._header = struct.pack("HxxxxxxP", len(program), ctypes.addressof(self._code))

    def install(self) -> None:
        """Put it onto this thread and all that come of it.

        Raises:
            OSError: the kernel refuses.
        """
        for line in self._pids:
            struct.pack_into("=I", self._code, 8 * line + 4, os.getpid())
        call("prctl", PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, self._header, 0, 0)


def supported() -> bool:
    """Whether a filter is written for this machine."""
    return MACHINE in _TABLES


def _program(exec_fd: int | None, build: bool) -> list[_Instruction]:
    table = _TABLES[MACHINE] + (_BUILD_TABLES[MACHINE] if build else "")
    numbers = {name: int(number) for name, number in (p.split("=") for p in table.split())}
    special = _SPECIAL - _BUILD_FREE if build else _SPECIAL
    lines: list[_Instruction] = [
        (_LOAD, 0, 0, 4),
        (_EQUAL, 1, 0, _ARCHITECTURES[MACHINE]),
        _returns(_KILL),
        (_LOAD, 0, 0, 0),
        (_AT_LEAST, 0, 1, _X32),
        _returns(_KILL),
    ]
    bodies = {
        number: _special(name, exec_fd, build) if name in special else [_returns(_ALLOW)]
        for name, number in numbers.items()
    }
    return lines + _search(sorted(bodies.items()))


def _search(bodies: Sequence[tuple[int, list[_Instruction]]]) -> list[_Instruction]:
    """Go on with the body of the number that is loaded; refuse a number that has none.

    By halves: installing a filter, the kernel tries it on every number that there is, and one list of them
    all costs each program 0.2 ms.
    """
    if len(bodies) <= 2:
        tests = [line for number, body in bodies for line in ((_EQUAL, 0, len(body), number), *body)]
        return [*tests, _returns(_error(errno.EPERM))]
    middle = len(bodies) // 2
    lower = _search(bodies[:middle])
    return [(_AT_LEAST, len(lower), 0, bodies[middle][0]), *lower, *_search(bodies[middle:])]


def _special(name: str, exec_fd: int | None, build: bool) -> list[_Instruction]:
    if name == "clone" and build:  # processes and threads, in the namespaces that there are
        return [_argument(0), (_AND, 0, 0, _NEW_NAMESPACES), *_only(0)]
    if name == "clone":
        mask = _THREAD_FLAGS | _NEW_NAMESPACES
        return [_argument(0), (_AND, 0, 0, mask), *_only(_THREAD_FLAGS)]
    if name == "clone3":  # its flags lie in memory; glibc falls back to clone
        return [_returns(_error(errno.ENOSYS))]
    if name == "ioctl":
        return [_argument(1), *_only(*_IOCTL_REQUESTS, otherwise=errno.ENOTTY)]
    if name in ("open", "openat"):  # to read; Landlock says the same by path, where there is Landlock
        return [_argument(1 if name == "open" else 2), (_AND, 0, 0, _WRITING), *_only(0)]
    if name == "fcntl":
        return [_argument(1), *_only(*_FCNTL_COMMANDS)]
    if name == "socketpair":
        return [_argument(0), *_only(_AF_UNIX)]
    if name == "sendto":  # no address: to the other end of a pair
        return [*_require(_argument(4), 0), *_require(_argument(4, high=True), 0), _returns(_ALLOW)]
    if name == "prlimit64":  # of itself, to be told
        reads = [*_require(_argument(2), 0), *_require(_argument(2, high=True), 0)]
        return [*_require(_argument(0), 0), *reads, _returns(_ALLOW)]
    if name == "tgkill":  # raise and abort; who is killed was killed from outside
        spared = [_argument(2), (_EQUAL, 0, 1, signal.SIGKILL), _returns(_error(errno.EPERM))]
        return [*spared, _argument(0), *_only(_OWN_PID)]
    assert name == "execveat"
    if exec_fd is None:
        return [_returns(_error(errno.EPERM))]
    return [*_require(_argument(0), exec_fd), *_require(_argument(4), _AT_EMPTY_PATH), _returns(_ALLOW)]


def _argument(index: int, high: bool = False) -> _Instruction:
    return (_LOAD, 0, 0, 16 + 8 * index + 4 * high)


def _only(*values: int, otherwise: int = errno.EPERM) -> list[_Instruction]:
    """Allow where what was loaded is one of `values`."""
    allowed = [line for value in values for line in ((_EQUAL, 0, 1, value), _returns(_ALLOW))]
    return [*allowed, _returns(_error(otherwise))]


def _require(load: _Instruction, value: int) -> list[_Instruction]:
    return [load, (_EQUAL, 1, 0, value), _returns(_error(errno.EPERM))]


def _returns(value: int) -> _Instruction:
    return (_RETURN, 0, 0, value)


def _error(number: int) -> int:
    return 0x00050000 | number
