from typing import Literal

from pydantic import Field, model_validator

from vlrl.config.base import Section

Layer = Literal["uid", "user", "network", "pid", "ipc", "uts", "mount", "root", "landlock", "seccomp"]


class SandboxConfig(Section):
    """Where model-written programs run."""

    workers: int = Field(default=2, gt=0)
    """Programs that run at a time; more than there are cores only makes each slower."""
    require: tuple[Layer, ...] = ("seccomp", "landlock")
    """Layers without which nothing runs. seccomp is always among them."""
    cpu_s: float = Field(default=6.0, gt=0)
    """CPU seconds of one test, all threads together."""
    wall_s: float = Field(default=30.0, gt=0)
    """Seconds by the clock of one test, for programs that sleep."""
    memory_mb: int = Field(default=1024, gt=0)
    """MiB of address space of one test beyond the interpreter's own."""
    output_mb: int = Field(default=8, gt=0)
    """MiB that one test may print, and return."""
    threads: int = Field(default=32, gt=0)
    """Threads of one program."""
    rerun_timeouts: bool = True
    """Run a test that timed out, and did not just sleep, once more with the machine's sandbox to itself."""
    python: str | None = None
    """Interpreter for programs; it must be readable by everyone. Unset: this one, else /usr/bin/python3."""
    modules: tuple[str, ...] = ()
    """Packages imported beforehand, such as numpy, beside the standard library's usual ones."""
    search: tuple[str, ...] = ()
    """Folders to import those and other packages from, readable by everyone."""
    uid: int = Field(default=61000, gt=0)
    """The user that programs run as where vlrl is started as root."""
    queue: int = Field(default=256, gt=0)
    """Programs that the service holds at a time, running ones included; whoever brings more waits outside."""
    body_mb: int = Field(default=64, gt=0)
    """MiB of one request to the service."""
    held_mb: int = Field(default=512, gt=0)
    """MiB of all requests that the service holds."""
    request_s: float = Field(default=600.0, gt=0)
    """Seconds for one request to the service; its programs that are not through by then are errors."""
    drain_s: float = Field(default=30.0, gt=0)
    """Seconds that a service which is told to end gives to the requests it has."""

    @model_validator(mode="after")
    def _consistent(self) -> "SandboxConfig":
        if self.held_mb < self.body_mb:
            raise ValueError(f"held_mb ({self.held_mb}) must be at least body_mb ({self.body_mb})")
        return self
