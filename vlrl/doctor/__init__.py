"""`vlrl doctor`: what is installed, what works, and how to mend what does not."""

from vlrl.doctor.examine import run_doctor

__all__ = ["run_doctor"]
