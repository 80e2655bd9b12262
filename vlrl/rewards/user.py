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
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vlrl.errors import UserError
from vlrl.rewards.calls import call_all
from vlrl.rewards.verifier import AnswerVerifier, Submission, Verifier, failed
from vlrl.trajectory import Prompt, Verdict

FORMS = ("submission", "submissions")

_JUDGED = ("correct", "wrong", "no_answer", "truncated")
_importing = threading.RLock()


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
        return ClassVerifier(_instance(found, reference), name, timeout_s)
    if callable(found) and (form := _form(found)):
        return FunctionVerifier(found, name, form == "submissions", timeout_s, workers)
    raise UserError(
        f"verifier '{reference}': write a function of one parameter, 'submission' or 'submissions', or a "
        "class with a method 'judge'"
    )


class FunctionVerifier(AnswerVerifier):
    """A function of the user's as a verifier. Rules: its name, or the error."""

    def __init__(
        self, function: Callable[..., Any], name: str, batched: bool, timeout_s: float, workers: int
    ) -> None:
        self._function, self._name, self._batched = function, name, batched
        self._timeout_s, self._workers = timeout_s, workers

    def judge(self, submissions: Sequence[Submission]) -> list[Verdict]:
        results = self._batch(submissions) if self._batched else self._singly(submissions)
        return [_verdict(s, r, self._name) for s, r in zip(submissions, results, strict=True)]

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


class ClassVerifier:
    """A class of the user's as a verifier: what it raises, and what no verdict can be, are errors too."""

    def __init__(self, verifier: Verifier, name: str, timeout_s: float) -> None:
        self._verifier, self._name, self._timeout_s = verifier, name, timeout_s

    def extract(self, response: str, thinking_open: bool) -> str | None:
        try:
            answer = self._verifier.extract(response, thinking_open)
            if answer is not None and not isinstance(answer, str):
                raise TypeError(f"extract gave {answer!r:.100}, which is neither text nor None")
        except Exception as error:
            return _Unread(error)
        return answer

    def check(self, prompt: Prompt) -> None:
        try:
            self._verifier.check(prompt)
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"{prompt.name}: {self._name} fails ({type(error).__name__}: {error})") from error

    def judge(self, submissions: Sequence[Submission]) -> list[Verdict]:
        read = [s for s in submissions if not isinstance(s.answer, _Unread)]
        results = iter(self._judged(read))
        return [
            _verdict(s, s.answer.error if isinstance(s.answer, _Unread) else next(results), self._name)
            for s in submissions
        ]

    def _judged(self, submissions: Sequence[Submission]) -> Sequence[Any]:
        if not submissions:
            return []
        deadline = self._timeout_s * len(submissions)
        result = call_all(self._verifier.judge, [submissions], deadline, 1)[0]
        if isinstance(result, (list, tuple)) and len(result) == len(submissions):
            return result
        if not isinstance(result, BaseException):
            result = ValueError(f"judge gave no list of {len(submissions)} verdicts")
        return [result] * len(submissions)


class _Unread(str):
    """The answer of a response over which `extract` failed."""

    def __new__(cls, error: Exception) -> "_Unread":
        unread = super().__new__(cls)
        unread.error = error
        return unread

    error: Exception


def _verdict(submission: Submission, result: Any, name: str) -> Verdict:
    answer = str(submission.answer)
    if isinstance(result, Verdict):
        if result.is_error or (result.status in _JUDGED and 0.0 <= result.reward <= 1.0):
            return result
        return failed(answer, f"{name} gave {result!r:.100}: the reward must be a number from 0 to 1")
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
    with _importing:  # or another thread would find a module that is half read
        return _import_once(path, reference)


def _import_once(path: Path, reference: str) -> Any:
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
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise UserError(f"{path}: cannot be imported ({type(error).__name__}: {error})") from error
    return module
