"""Runs hostile programs as on another host: `python -m tests.sandbox_attacks.harness MODE FOLDER PYTHON`.

Modes: `user` (without powers), `no-namespaces` (the same, and user namespaces are refused), `uid` (root, and
user namespaces are refused), `no-landlock` and `no-seccomp` (the kernel has none). Prints what was found.
"""

import ctypes
import encodings.idna  # noqa: F401 - everything is imported while it can be read
import json
import os
import resource
import struct
import sys
from pathlib import Path

from vlrl.config.sandbox import SandboxConfig
from vlrl.errors import EngineError
from vlrl.sandbox.inside.kernel import NEW_USER, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, call
from vlrl.sandbox.pool import Sandbox

from .host import host, run
from .suite import ALL, ISOLATION

USER = 12345  # nobody has it
THREADS = 8


def main(mode: str, folder: str, python: str) -> None:
    if mode == "uid":
        _become_root_of_little()
    elif mode == "user":
        resource.setrlimit(resource.RLIMIT_NOFILE, (48, 48))  # less than programs are given elsewhere
    if os.getuid() == 0 and mode != "uid":
        os.setgroups([])
        os.setresgid(USER, USER, USER)
        os.setresuid(USER, USER, USER)
    if mode == "no-namespaces":
        call("prctl", PR_SET_DUMPABLE, 1, 0, 0, 0)
        _own_users(f"{os.getuid()} {os.getuid()} 1", f"{os.getgid()} {os.getgid()} 1")
    if mode in ("no-namespaces", "uid"):
        Path("/proc/sys/user/max_user_namespaces").write_text("0")
    if mode == "no-landlock":
        _refuse(number=444, argument=None)
    if mode == "no-seccomp":
        _refuse(number=157, argument=PR_SET_SECCOMP)
    limited = mode in ("no-namespaces", "uid")
    required: tuple[str, ...] = ("network",) if os.environ.get("REQUIRE_NETWORK") else ("landlock",)
    options = SandboxConfig(
        workers=1,
        python=python,
        rerun_timeouts=False,
        threads=THREADS,
        require=required,  # type: ignore[arg-type]
    )
    answer: dict[str, object] = {"uid": os.getuid()}
    with Sandbox(options) as sandbox:
        try:
            layers = sandbox.start()
        except EngineError as error:
            print(json.dumps({"error": str(error)}))
            return
        answer["layers"] = layers
        uid = options.uid if "uid" in layers else -1
        with host(Path(folder), uid, layers, THREADS) as outside:
            attacks = ISOLATION if limited else ALL
            found = {attack.name: run(attack, sandbox, outside) for attack in attacks}
    answer |= {"found": {name: text for name, text in found.items() if text}, "count": len(found)}
    print(json.dumps(answer))


def _become_root_of_little() -> None:
    """Root in a user namespace that has 65536 users, as in a container."""
    parent = os.getpid()
    ready, go = os.pipe()
    pid = os.fork()
    if pid == 0:  # still root outside: it may write the maps
        os.read(ready, 1)
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{parent}/{name}").write_text("0 0 65536")
        os._exit(0)
    call("unshare", NEW_USER)
    os.write(go, b"x")
    assert os.waitpid(pid, 0)[1] == 0


def _own_users(uids: str, gids: str) -> None:
    call("unshare", NEW_USER)
    for name, text in (("setgroups", "deny"), ("uid_map", uids), ("gid_map", gids)):
        Path(f"/proc/self/{name}").write_text(text)


def _refuse(number: int, argument: int | None) -> None:
    """A kernel without a system call, or without one value of its first argument."""
    lines = [(0x20, 0, 0, 0), (0x15, 1, 0, number), (0x06, 0, 0, 0x7FFF0000)]
    if argument is not None:
        lines += [(0x20, 0, 0, 16), (0x15, 1, 0, argument), (0x06, 0, 0, 0x7FFF0000)]
    lines += [(0x06, 0, 0, 0x00050000 | 38)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in lines))
    header = struct.pack("HxxxxxxP", len(lines), ctypes.addressof(code))
    call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    call("prctl", PR_SET_SECCOMP, 2, header, 0, 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
