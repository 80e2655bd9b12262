"""Runs every probe in a process of its own, under a deadline, and prints the table.

A probe that crashes, hangs or takes its whole process group down is one broken row, never a broken doctor.
"""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass

from vlrl.doctor.finding import Finding
from vlrl.launch import set_environment

MARK = "vlrl-finding "


@dataclass(slots=True, frozen=True)
class Probe:
    """A row of the table. `deadline` is in seconds; `mend` serves where the probe itself dies."""

    name: str
    title: str
    essential: bool = False
    starts_engine: bool = False
    deadline: float = 60
    mend: str = "make install"


PROBES = (
    Probe("python", "Python", essential=True),
    Probe("packages", "package versions", essential=True),
    Probe("torch", "torch", essential=True),
    Probe("torchvision", "torchvision", essential=True),
    Probe("transformers", "transformers", essential=True),
    Probe("deepspeed", "DeepSpeed", essential=True),
    Probe("deepspeed_ops", "DeepSpeed operators"),
    # The first start may compile an operator, and has taken two minutes on a busy machine.
    Probe("deepspeed_step", "DeepSpeed takes a step", essential=True, starts_engine=True, deadline=300),
    Probe("vllm", "vLLM", essential=True),
    Probe("vllm_sample", "vLLM samples", essential=True, starts_engine=True, deadline=300),
    Probe("math_verify", "math-verify", essential=True),
    Probe("user_namespaces", "sandbox: user namespaces", mend="sysctl user.max_user_namespaces"),
    Probe("seccomp", "sandbox: seccomp", mend="a kernel with CONFIG_SECCOMP_FILTER"),
    Probe("landlock", "sandbox: Landlock", mend="a kernel from 5.13 on, with lsm=landlock"),
    Probe("programs", "sandbox: programs", mend="see the sandbox rows above and docs/sandbox.md"),
    Probe("ocr", "OCR (paddleocr)", mend="pip install paddleocr in an environment of its own"),
    Probe("clip", "CLIP (open_clip)", mend="make install EXTRAS=cpu,clip"),
    Probe("ray", "Ray", mend="make install EXTRAS=cpu,cluster"),
    Probe("gradio", "Gradio", mend="make install EXTRAS=cpu,demo"),
    Probe("disk", "disk space"),
    Probe("memory", "memory"),
    Probe("cpu", "CPU threads"),
    Probe("shared_memory", "shared memory"),
)


def run_doctor(*, quick: bool = False, probes: tuple[Probe, ...] = PROBES) -> int:
    """Print a row a probe; `quick` starts no engine.

    Returns:
        0 if everything essential works, else 1.
    """
    from rich.console import Console
    from rich.table import Column, Table

    console = Console()
    table = Table("", "state", Column("found", overflow="fold"), Column("how to mend", overflow="fold"))
    colours = {"ok": "green", "missing": "yellow", "broken": "red"}
    failed = []
    set_environment(threads=1)
    for probe in probes:
        if quick and probe.starts_engine:
            continue
        with console.status(f"looking at {probe.title}"):
            finding = examine(probe)
        state = f"[{colours[finding.state]}]{finding.state}[/]"
        mend = "" if finding.state == "ok" else finding.mend or probe.mend
        table.add_row(probe.title, state, _plain(finding.found), _plain(mend))
        if probe.essential and finding.state != "ok":
            failed.append(probe.title)
    console.print(table)
    print(f"does not work: {', '.join(failed)}" if failed else "everything essential works")
    return 1 if failed else 0


def examine(probe: Probe) -> Finding:
    """Run one probe in a child process; its death or silence is a finding too."""
    process = subprocess.Popen(
        [sys.executable, "-m", "vlrl.doctor", probe.name],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=probe.deadline)
    except subprocess.TimeoutExpired:
        return Finding("broken", f"no answer in {probe.deadline:.0f} s", probe.mend)
    finally:
        kill_group(process)
    for line in out.splitlines():
        if line.startswith(MARK):
            return Finding(**json.loads(line.removeprefix(MARK)))
    if process.returncode < 0:
        return Finding("broken", f"died of {signal.Signals(-process.returncode).name}", probe.mend)
    last = (err.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
    return Finding("broken", last[:200], probe.mend)


def kill_group(process: subprocess.Popen[str]) -> None:
    """End whatever the probe started; the group outlives its leader as long as a member lives."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)
