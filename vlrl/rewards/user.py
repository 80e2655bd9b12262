"""Verifiers of the user's own, from a Python file.

`FILE.py:NAME` is one of

    def NAME(submission): ...            one at a time, several at once in threads
    async def NAME(submission): ...      one at a time, all at once on one event loop
    def NAME(submissions): ...           a batch, a result for each; `async` or not
    class NAME: ...                      `judge`, and if it likes `extract` and `check`, of `Verifier`

A result is a number from 0 to 1 (1 is correct, True and False count), or a `Verdict`. Whatever else comes,
an exception or a deadline that passed are errors of the grader, never wrong answers.
"""

import asyncio
import importlib.util
import inspect
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vlrl.errors import UserError
from vlrl.rewards.calls import call_all
from vlrl.rewards.verifier import AnswerVerifier, Submission, Verifier, failed
from vlrl.trajectory import Verdict

FORMS = ("submission", "submissions")


def load_verifier(reference: str, timeout_s: float, workers: int) -> Verifier:
    """The verifier that `FILE.py:NAME` names; `timeout_s` and `workers` are of a function's calls.

    Raises:
        UserError: no such file or name, a file that cannot be imported, or a function of another form.
    """
    path, _, name = reference.rpartition(":")
    found = getattr(_import(Path(path).expanduser(), reference), name, None)
    if found is None:
        raise UserError(f"verifier '{reference}': {path} has no '{name}'")
    if inspect.isclass(found):
        return _instance(found, reference)
    if callable(found) and (form := _form(found)):
        return FunctionVerifier(found, form == "submissions", timeout_s, workers)
    raise UserError(
        f"verifier '{reference}': write a function of one parameter, 'submission' or 'submissions', or a "
        "class with a method 'judge'"
    )


class FunctionVerifier(AnswerVerifier):
    """A function of the user's as a verifier. Rules: its name, or the error."""

    def __init__(self, function: Callable[..., Any], batched: bool, timeout_s: float, workers: int) -> None:
        self._function, self._batched = function, batched
        self._timeout_s, self._workers = timeout_s, workers

    def judge(self, submissions: Sequence[Submission]) -> list[Verdict]:
        results = self._batch(submissions) if self._batched else self._singly(submissions)
        return [_verdict(s, r, self._function.__name__) for s, r in zip(submissions, results, strict=True)]

    def _batch(self, submissions: Sequence[Submission]) -> Sequence[Any]:
        function, deadline = self._function, self._timeout_s * len(submissions)

        def judge(all_of_them: Sequence[Submission]) -> Any:
            results = function(list(all_of_them))
            results = asyncio.run(results) if inspect.iscoroutine(results) else results
            if not isinstance(results, (list, tuple)) or len(results) != len(all_of_them):
                raise ValueError(f"expected a list of {len(all_of_them)} results")
            return results

        result = call_all(judge, [submissions], deadline, 1)[0]
        return [result] * len(submissions) if isinstance(result, BaseException) else result

    def _singly(self, submissions: Sequence[Submission]) -> Sequence[Any]:
        if not inspect.iscoroutinefunction(self._function):
            return call_all(self._function, submissions, self._timeout_s, self._workers)
        turns = math.ceil(len(submissions) / self._workers)
        # Coroutines are cut off by the loop; the deadline outside is for one that blocks the loop.
        outside = turns * self._timeout_s + 10.0
        result = call_all(lambda them: asyncio.run(self._gather(them)), [submissions], outside, 1)[0]
        return [result] * len(submissions) if isinstance(result, BaseException) else result

    async def _gather(self, submissions: Sequence[Submission]) -> list[Any]:
        turn = asyncio.Semaphore(self._workers)

        async def one(submission: Submission) -> Any:
            async with turn:
                try:
                    return await asyncio.wait_for(self._function(submission), self._timeout_s)
                except TimeoutError:
                    return TimeoutError(f"not done after {self._timeout_s:g} s")

        return await asyncio.gather(*map(one, submissions), return_exceptions=True)


def _verdict(submission: Submission, result: Any, name: str) -> Verdict:
    answer = submission.answer
    if isinstance(result, Verdict):
        return result
    if isinstance(result, TimeoutError):
        return failed(answer, f"timeout: {result}")
    if isinstance(result, BaseException):
        return failed(answer, f"{type(result).__name__}: {result}"[:300])
    if not isinstance(result, (bool, int, float)) or not 0.0 <= result <= 1.0:
        return failed(answer, f"{name} gave {result!r:.100}, which is no number from 0 to 1")
    return Verdict(float(result), "correct" if result == 1 else "wrong", answer, name)


def _form(function: Callable[..., Any]) -> str | None:
    try:
        parameters = list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return None
    return parameters[0] if len(parameters) == 1 and parameters[0] in FORMS else None


def _instance(found: type[Any], reference: str) -> Verifier:
    if not callable(getattr(found, "judge", None)):
        raise UserError(f"verifier '{reference}': the class has no method 'judge'")
    missing = {
        name: getattr(AnswerVerifier, name) for name in ("extract", "check") if not hasattr(found, name)
    }
    try:
        verifier: Verifier = type(found.__name__, (found,), missing)()
    except Exception as error:
        raise UserError(
            f"verifier '{reference}': cannot be made ({type(error).__name__}: {error})"
        ) from error
    return verifier


def _import(path: Path, reference: str) -> Any:
    """The file as a module; a second call gives the same one."""
    if not path.is_file():
        raise UserError(f"verifier '{reference}': no file {path}; correct the path")
    name = f"vlrl_user_{path.resolve()}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"verifier '{reference}': {path} is no Python file (.py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs: dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise UserError(f"{path}: cannot be imported ({type(error).__name__}: {error})") from error
    return module
