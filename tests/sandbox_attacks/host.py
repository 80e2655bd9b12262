"""What stands outside the sandbox while hostile programs run, and notices what they did."""

import contextlib
import os
import secrets
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from vlrl.sandbox.inside import filter as seccomp
from vlrl.sandbox.pool import Sandbox
from vlrl.sandbox.programs import Program, Test

from .attack import LIMITS, Attack

CANARY = "hidden-in-the-environment"
HARMLESS = Program(
    code="print(sum(map(int, input().split())))", tests=[Test(input="1 2 3", output="6")], limits=LIMITS
)


class Host:
    """Listeners on every road out, a file that all may read, and a process of the programs' own user."""

    def __init__(self, folder: Path, uid: int, layers: Sequence[str], threads: int) -> None:
        """`uid`: the user whose process the programs may want to harm; -1 for this one's."""
        self._secret = folder / "secret"
        self._secret.write_text("the secret\n")
        self._secret.chmod(0o666)
        folder.joinpath("secret.py").write_text("secret = 1\n")
        self._before = sorted(os.listdir(folder))
        self._folder = folder
        name = f"\0vlrl-{secrets.token_hex(8)}"
        self._listeners = [socket.create_server(("127.0.0.1", 0)), _udp(), _unix(name)]
        tcp6 = 1
        with contextlib.suppress(OSError):
            self._listeners.append(socket.create_server(("::1", 0), family=socket.AF_INET6))
            tcp6 = self._listeners[-1].getsockname()[1]
        self._victim = subprocess.Popen(
            ["sleep", "1000"],
            env={"SECRET": CANARY},
            user=uid if uid >= 0 else None,
            stdin=subprocess.DEVNULL,
        )
        exact = "user" in layers
        listed = [int(p.split("=")[1]) for p in seccomp._TABLES.get("x86_64", "").split()]
        self.facts: dict[str, object] = {
            "tcp": self._listeners[0].getsockname()[1],
            "udp": self._listeners[1].getsockname()[1],
            "tcp6": tcp6,
            "unix": name,
            "secret": str(self._secret),
            "here": str(Path(__file__).parent),
            "host": os.getpid(),
            "victim": self._victim.pid,
            "root": "root" in layers,
            "threads": threads,
            "tasks": threads if exact else 4500,
            "exact": exact,
            "listed": listed,
        }

    def harm(self) -> list[str]:
        """What was done to it, in words."""
        found = [f"reached {listener.getsockname()}" for listener in self._listeners if _reached(listener)]
        if self._secret.read_text() != "the secret\n" or self._secret.stat().st_mode & 0o777 != 0o666:
            found.append("the file was changed")
        if sorted(os.listdir(self._folder)) != self._before:
            found.append("files appeared or went")
        if self._victim.poll() is not None:
            found.append("the process was killed")
        elif Path(f"/proc/{self._victim.pid}/stat").read_text().rpartition(")")[2].split()[0] not in "SDR":
            found.append("the process was stopped")
        return found

    def close(self) -> None:
        for listener in self._listeners:
            listener.close()
        self._victim.kill()
        self._victim.wait()


@contextlib.contextmanager
def host(folder: Path, uid: int, layers: Sequence[str], threads: int) -> Iterator[Host]:
    """A `Host` for as long as the block lasts."""
    made = Host(folder, uid, layers, threads)
    try:
        yield made
    finally:
        made.close()


def run(attack: Attack, sandbox: Sandbox, outside: Host) -> list[str]:
    """Everything about an attack that is not as it must be: nothing, where the sandbox holds."""
    if attack.x86_64 and os.uname().machine != "x86_64":
        return []
    test = Test(
        input=attack.input,
        output=attack.expected,
        testtype="stdin" if attack.function is None else "functional",
    )
    program = Program(
        code=attack.text(outside.facts), tests=[test], fn_name=attack.function, limits=attack.limits
    )
    # Its code and input must not be found by whatever runs next.
    before = Program(code="x = 'goldfish-aaaaaaaaaaaaaaaa'", tests=[Test(input="goldfish-bbbbbbbbbbbbbbbb")])
    reports = sandbox.judge([before, program, HARMLESS])
    (result,) = reports[1].tests
    done = result.execution
    assert done is not None
    found = []
    if result.outcome not in attack.outcomes:
        found.append(f"{result.outcome} (exit {done.exit_code}), not {' or '.join(attack.outcomes)}")
    lines = (done.output + "\n" + done.error).splitlines()
    found += [line[:300] for line in lines if line.startswith(("ESCAPED", '"ESCAPED'))][:5]
    found += [f"{text!r} got out" for text in (CANARY, "the secret") if text in done.output + done.error]
    found += outside.harm()
    if not reports[2].passed:
        found.append(f"the next program: {reports[2]}")
    if found and done.error:
        found.append(done.error[-500:])
    return found


def _udp() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind(("127.0.0.1", 0))
    return made


def _unix(name: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.bind(name)
    made.listen()
    return made


def _reached(listener: socket.socket) -> bool:
    listener.setblocking(False)
    try:
        listener.recv(1) if listener.type == socket.SOCK_DGRAM else listener.accept()
    except BlockingIOError:
        return False
    return True
