"""Probes of the kernel's sandbox layers, each on the probe's own process, and of the sandbox as a whole."""

import ctypes
import errno
import os
import platform
import shutil
import struct
from collections.abc import Callable

from vlrl.doctor.finding import Finding

_NAMESPACES = {
    "network": 0x40000000,
    "pid": 0x20000000,
    "ipc": 0x08000000,
    "uts": 0x04000000,
    "mount": 0x00020000,
}
_NEW_USER = 0x10000000
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2
_GETPPID = {"x86_64": 110, "aarch64": 173}
_LANDLOCK_CREATE, _LANDLOCK_RESTRICT = 444, 446  # the same on every architecture
_LANDLOCK_READ = 1 << 2

_libc = ctypes.CDLL(None, use_errno=True)


def user_namespaces() -> Finding:
    if _libc.unshare(_NEW_USER) != 0:
        return Finding(
            "missing", f"refused: {_reason()}", "sysctl user.max_user_namespaces, AppArmor's userns rule"
        )
    granted = [name for name, flag in _NAMESPACES.items() if _libc.unshare(flag) == 0]
    if len(granted) < len(_NAMESPACES):
        return Finding("broken", f"user namespace, but within it only {', '.join(granted) or 'none'}")
    return Finding("ok", f"user, {', '.join(granted)}")


def seccomp() -> Finding:
    """A filter that refuses one harmless system call."""
    number = _GETPPID.get(platform.machine())
    if number is None:
        return Finding("missing", f"no filter is written for {platform.machine()}")
    # load the number; equal: fall through to the refusal, else to the permission
    refuse, allow = 0x00050000 | errno.EPERM, 0x7FFF0000
    program = b"".join(
        struct.pack("HBBI", *instruction)
        for instruction in ((0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, refuse), (0x06, 0, 0, allow))
    )
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if _libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, header, 0, 0) != 0:
        return Finding("missing", f"refused: {_reason()}")
    if _libc.syscall(number) != -1 or ctypes.get_errno() != errno.EPERM:
        return Finding("broken", "a filter was accepted and does nothing")
    return Finding("ok", "a filter holds")


def landlock() -> Finding:
    """A rule set that lets nothing be read."""
    version = _libc.syscall(_LANDLOCK_CREATE, None, 0, 1)
    if version < 0:
        return Finding("missing", f"refused: {_reason()}")
    rules = _libc.syscall(_LANDLOCK_CREATE, struct.pack("Q", _LANDLOCK_READ), 8, 0)
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if rules < 0 or _libc.syscall(_LANDLOCK_RESTRICT, rules, 0) != 0:
        return Finding("broken", f"ABI {version}, but it restricts nothing: {_reason()}")
    try:
        os.close(os.open("/etc/passwd", os.O_RDONLY))
    except PermissionError:
        return Finding("ok", f"ABI {version}, a rule set holds")
    return Finding("broken", f"ABI {version}, a rule set was accepted and does nothing")


def programs() -> Finding:
    """A Python program run and judged in the sandbox, and a C++ one where there is a compiler."""
    from vlrl.config.sandbox import SandboxConfig
    from vlrl.errors import EngineError, UserError
    from vlrl.sandbox.pool import Sandbox
    from vlrl.sandbox.programs import Program, Test

    tests = [Test(input="2", output="4")]
    judged = {"python": Program(code="print(int(input()) * 2)", tests=tests)}
    if shutil.which("g++"):
        code = "#include <iostream>\nint main() { int n; std::cin >> n; std::cout << 2 * n; }"
        judged["cpp"] = Program(code=code, tests=tests, language="cpp")
    try:
        with Sandbox(SandboxConfig(workers=1)) as sandbox:
            layers = sandbox.start()
            reports = sandbox.judge(list(judged.values()))
    except (EngineError, UserError) as error:
        return Finding("broken", str(error))
    for language, report in zip(judged, reports, strict=True):
        if not report.passed:
            ran = report.tests[0].execution
            return Finding(
                "broken", f"{language}: {report.tests[0].outcome}, {ran.error if ran else ''}"[:200]
            )
    without = "" if "cpp" in judged else "; no g++, so no C++"
    return Finding("ok", f"behind {', '.join(layers)}{without}")


def _reason() -> str:
    return os.strerror(ctypes.get_errno())


LOOKS: dict[str, Callable[[], Finding]] = {
    look.__name__: look for look in (user_namespaces, seccomp, landlock, programs)
}
