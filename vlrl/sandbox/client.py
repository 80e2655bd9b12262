"""A sandbox on another machine, used as the one of this process is."""

import asyncio
import json
import random
import threading
from collections.abc import Coroutine, Iterator, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any, TypeVar

import httpx

from vlrl.errors import UserError, WaitTimeout
from vlrl.sandbox.programs import Limits, Program, Report, unknown
from vlrl.sandbox.wire import program_json, report_from

_BATCH = 8  # programs of one request
_BATCH_BYTES = 4 << 20
_CONNECTIONS = 32  # requests at a time
_CONNECT_S = 10.0
_HEALTH_S = 30.0  # whoever gave a wrong address learns of it soon
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 5.0
_COME_AGAIN = (429, 502, 503, 504)

_Result = TypeVar("_Result")


class _TooMany(Exception):
    """Programs that must go one by one."""


class RemoteSandbox:
    """The service at `url`; shared by every thread and coroutine; a context manager.

    A server that is full, restarts or cannot be reached is asked again, until `timeout_s` seconds have gone
    into a request of up to 8 programs. Its tests are `infra_error` then, which a reward leaves out as it
    does every error of a grader: one machine's trouble costs a trainer rollouts, not the run. Judging a
    program twice does no harm, so a lost answer is asked for again.

    Args:
        url: such as http://sandbox:8330.
        token: the server's, if it asks for one.
        timeout_s: seconds.
    """

    def __init__(self, url: str, token: str | None = None, timeout_s: float = 900.0) -> None:
        """
        Raises:
            UserError: not an http address.
        """
        self._url = url.rstrip("/")
        try:
            parts = httpx.URL(self._url)
        except (httpx.InvalidURL, TypeError):
            parts = httpx.URL("")
        if parts.scheme not in ("http", "https") or not parts.host:
            raise UserError(f"sandbox '{url}': write its address as http://HOST:PORT")
        headers = {"Content-Type": "application/json"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        self._timeout_s = timeout_s
        self._client = httpx.AsyncClient(
            headers=headers,
            # The deadline is over the whole; what is read comes only when all programs are judged.
            timeout=httpx.Timeout(None, connect=_CONNECT_S),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=_CONNECTIONS),
            # Without TLS there is nothing to load, and a machine beside this one needs no proxy.
            verify=parts.scheme == "https",
            trust_env=parts.scheme == "https",
        )
        self._turns = asyncio.Semaphore(_CONNECTIONS)
        self._limits: Limits | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="remote sandbox", daemon=True)
        self._thread.start()

    def __enter__(self) -> "RemoteSandbox":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def limits(self) -> Limits:
        """The server's, which no program may exceed.

        Raises:
            WaitTimeout: no answer within 30 s, or the deadline where it is shorter.
            UserError: see `judge`.
        """
        if self._limits is None:
            self._limits = Limits(**self.health()["limits"])
        return self._limits

    def health(self) -> dict[str, Any]:
        """What `GET /health` says; errors as `limits`."""
        timeout_s = min(_HEALTH_S, self._timeout_s)
        answer = self._submit(self._ask("GET", "/health", None, timeout_s)).result()
        if isinstance(answer, str):
            raise WaitTimeout(f"the sandbox at {self._url} ({answer})", timeout_s)
        return dict(answer)

    def judge(self, programs: Sequence[Program], stop_at_failure: bool = False) -> list[Report]:
        """Reports in order; blocks, from any thread.

        Raises:
            UserError: the server refuses what it is asked: limits above its own, tests that cannot be run, a
                token that is not its, more than fits into one request, an address that is no sandbox.
        """
        futures = [self._submit(self._judge(batch, stop_at_failure)) for batch in _batches(programs)]
        try:
            return [report for future in futures for report in future.result()]
        finally:
            for future in futures:
                future.cancel()

    async def judge_async(self, program: Program, stop_at_failure: bool = False) -> Report:
        """`judge` of one program, for coroutines. Where it is cancelled, the server drops it too."""
        return (await asyncio.wrap_future(self._submit(self._judge([program], stop_at_failure))))[0]

    def close(self) -> None:
        """Let go of the connections; what is under way is cancelled."""
        if self._loop.is_closed():
            return
        self._submit(self._end()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _submit(self, work: Coroutine[Any, Any, _Result]) -> "Future[_Result]":
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _end(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._client.aclose()

    async def _judge(self, programs: Sequence[Program], stop_at_failure: bool) -> list[Report]:
        several = len(programs) > 1
        path = "/judge_many" if several else "/judge"
        try:
            async with self._turns:
                body = _body(programs, stop_at_failure)
                answer = await self._ask("POST", path, body, self._timeout_s, several)
        except _TooMany:
            parts = await asyncio.gather(*(self._judge([one], stop_at_failure) for one in programs))
            return [report for part in parts for report in part]
        if isinstance(answer, str):
            why = f"the sandbox at {self._url}: {answer}"
        else:
            try:
                reports = [report_from(tree) for tree in answer.get("reports", [answer])]
                if list(map(_count, reports)) == [len(program.tests) for program in programs]:
                    return reports
                why = f"the sandbox at {self._url} answered for other programs"
            except (KeyError, TypeError, AttributeError):
                why = f"the sandbox at {self._url} answered with something that is no report"
        return [unknown(program, why) for program in programs]

    async def _ask(
        self, method: str, path: str, body: bytes | None, timeout_s: float, several: bool = False
    ) -> Any:
        """The JSON of an answer; a string where there was none in time, which says why.

        Raises:
            UserError: see `judge`.
            _TooMany: the body is of `several` programs, for which there is no room now, or never.
        """
        why = "no answer"
        try:
            async with asyncio.timeout(timeout_s):
                wait_s = _FIRST_WAIT_S
                while True:
                    least_s = 0.0
                    try:
                        response = await self._client.request(method, self._url + path, content=body)
                    except httpx.RequestError as error:
                        why = str(error) or type(error).__name__
                    else:
                        if several and response.status_code == 413:
                            raise _TooMany
                        if response.status_code not in _COME_AGAIN:
                            return self._read(response)
                        why, least_s = _come_again(response)
                    # The spread keeps trainers that were refused together from coming back together.
                    await asyncio.sleep(max(least_s, wait_s) * random.uniform(1, 1.25))
                    if several and least_s:
                        # A full server has one place long before it has eight: others would take each.
                        raise _TooMany
                    wait_s = _FIRST_WAIT_S if least_s else min(2 * wait_s, _LONGEST_WAIT_S)
        except TimeoutError:
            return f"{why}, until {timeout_s:g} s were over"

    def _read(self, response: httpx.Response) -> Any:
        try:
            content = response.json()
        except ValueError:
            content = None
        if response.status_code == 200 and isinstance(content, dict):
            return content
        said = content.get("error") if isinstance(content, dict) else None
        if response.status_code >= 500:  # a fault of the server, which asking again does not mend
            return f"it failed with status {response.status_code}"
        raise UserError(
            f"sandbox {self._url}: {said or f'answered with status {response.status_code}; is it one?'}"
        )


def _count(report: Report) -> int:
    return len(report.tests)


def _body(programs: Sequence[Program], stop_at_failure: bool) -> bytes:
    forms = [program_json(program) for program in programs]
    tree = forms[0] if len(forms) == 1 else {"programs": forms}
    return json.dumps({**tree, "stop_at_failure": stop_at_failure}).encode()


def _batches(programs: Sequence[Program]) -> Iterator[list[Program]]:
    batch: list[Program] = []
    size = 0
    for program in programs:
        own = len(program.code) + sum(len(test.input) + len(test.output) for test in program.tests)
        if batch and (len(batch) == _BATCH or size + own > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(program)
        size += own
    if batch:
        yield batch


def _come_again(response: httpx.Response) -> tuple[str, float]:
    """Why, and after how many seconds at least; 0 where the server does not say."""
    try:
        content = response.json()
        return str(content["error"]), float(content["retry_after_s"])
    except (ValueError, KeyError, TypeError):
        pass
    try:
        least_s = float(response.headers.get("retry-after", "0"))
    except ValueError:
        least_s = 0.0  # a date, of a proxy
    return f"it answered with status {response.status_code}", least_s
