"""What a hostile program is, and the lines that each begins with."""

from dataclasses import dataclass

from vlrl.sandbox.programs import Limits

LIMITS = Limits(cpu_s=4.0, wall_s=30.0, memory_mb=192, output_mb=1)
SMALL = Limits(cpu_s=4.0, wall_s=30.0, memory_mb=48, output_mb=1)
SHORT = Limits(cpu_s=0.15, wall_s=30.0, memory_mb=192, output_mb=1)
SLEEPY = Limits(cpu_s=2.0, wall_s=0.25, memory_mb=192, output_mb=1)

_PRELUDE = """
import ctypes, os, sys
FACTS = {facts!r}
libc = ctypes.CDLL(None, use_errno=True)

def escaped(*what):
    print("ESCAPED:", *what, flush=True)

def attempt(what, act, *arguments, **options):
    try:
        result = act(*arguments, **options)
    except BaseException as error:
        return error
    escaped(what, repr(result)[:200])

def system(what, number, *arguments):
    words = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    if libc.syscall(ctypes.c_long(number), *words) != -1:
        escaped(what)
    return ctypes.get_errno()

def calls(names, *arguments):
    for word in names.split():
        name, number = word.split("=")
        system(name, int(number), *arguments)
"""


@dataclass(slots=True, frozen=True, kw_only=True)
class Attack:
    """A program and what must become of it. It prints `ESCAPED: ...` for whatever it managed."""

    name: str
    code: str
    outcomes: tuple[str, ...] = ("passed",)
    """Any of these; a program that was refused everything prints what is expected and passes."""
    expected: str = "held"
    input: str = "5\n"
    function: str | None = None
    limits: Limits = LIMITS
    x86_64: bool = False
    """It names system calls by number."""

    def text(self, facts: dict[str, object]) -> str:
        """The whole program."""
        return _PRELUDE.format(facts=facts) + self.code
