"""The sandbox over HTTP: requests admitted up to a bound, judged by the pool, answered with reports.

`POST /judge`, `POST /judge_many`, `GET /health`; docs/sandbox.md has the forms.
"""

import asyncio
import hmac
import math
import threading
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from vlrl.config.sandbox import SandboxConfig
from vlrl.errors import UserError
from vlrl.sandbox.places import Places
from vlrl.sandbox.pool import Sandbox
from vlrl.sandbox.programs import Program, Report, unknown
from vlrl.sandbox.wire import JudgeForm, JudgeManyForm, ProgramForm, read, report_json


class Refusal(Exception):
    """An answer other than a report: a status and one sentence."""

    def __init__(self, status: int, sentence: str, retry_after_s: float | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.retry_after_s = retry_after_s


class Service:
    """The routes around a sandbox that has started, whose layers are `layers`.

    Args:
        token: what each request must bear; None for a server that asks for none.
    """

    def __init__(
        self, sandbox: Sandbox, config: SandboxConfig, layers: Sequence[str], token: str | None = None
    ) -> None:
        self._sandbox, self._config, self._layers = sandbox, config, list(layers)
        self._token = token.encode() if token is not None else None
        self._places = Places(config.queue, config.held_mb << 20)
        # The pool is handed little more than it can run: what waits here can leave without a trace.
        self._turns = asyncio.Semaphore(2 * config.workers)
        self._started = time.monotonic()

    def app(self) -> FastAPI:
        app = FastAPI(title="vlrl sandbox", openapi_url=None)
        app.add_api_route("/judge", self._judge, methods=["POST"], response_model=None)
        app.add_api_route("/judge_many", self._judge_many, methods=["POST"], response_model=None)
        app.add_api_route("/health", self._health, methods=["GET"], response_model=None)
        app.add_exception_handler(Refusal, _refuse)
        app.add_exception_handler(HTTPException, _unknown_address)
        return app

    async def _judge(self, request: Request) -> Response:
        return JSONResponse(report_json((await self._reports(request, JudgeForm))[0]))

    async def _judge_many(self, request: Request) -> Response:
        reports = await self._reports(request, JudgeManyForm)
        return JSONResponse({"reports": [report_json(report) for report in reports]})

    async def _health(self, request: Request) -> Response:
        self._authorise(request)
        held = self._places.held
        running = min(held, self._config.workers)
        queue = {"running": running, "waiting": held - running, "limit": self._places.limit}
        return JSONResponse(
            {
                "status": "ok",
                "layers": self._layers,
                "workers": self._config.workers,
                "limits": asdict(self._sandbox.limits),
                "queue": {**queue, "bytes": self._places.bytes},
                "counters": self._places.counters(),
                "uptime_s": time.monotonic() - self._started,
            }
        )

    def _authorise(self, request: Request) -> None:
        if self._token is None:
            return
        given = request.headers.get("authorization", "").encode()
        if not hmac.compare_digest(given, b"Bearer " + self._token):
            raise Refusal(401, "this server asks for its token, as 'Authorization: Bearer TOKEN'")

    async def _reports(self, request: Request, form: type[JudgeForm] | type[JudgeManyForm]) -> list[Report]:
        self._authorise(request)
        try:
            return await self._judged(request, form)
        except asyncio.CancelledError:  # the server's own deadline, when it ends; another may come after it
            raise Refusal(503, "the server is ending; come again", 1.0) from None

    async def _judged(self, request: Request, form: type[JudgeForm] | type[JudgeManyForm]) -> list[Report]:
        # Browsers send other types to strange servers without asking them; this one they ask about.
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise Refusal(415, "the body must be JSON, sent as application/json")
        if self._places.full:  # found out before the body is read
            raise self._busy()
        until = time.monotonic() + self._config.request_s
        async with self._body(request) as body:
            try:
                checked = read(form, body)
                programs = [self._program(*item) for item in enumerate(checked.programs)]
            except UserError as error:
                raise Refusal(422, str(error)) from None
            body.clear()
            return await self._run(request, programs, checked.stop_at_failure, until)

    def _program(self, index: int, form: ProgramForm) -> Program:
        try:
            return form.program(self._sandbox.limits)
        except UserError as error:
            if isinstance(form, JudgeForm):
                raise
            raise UserError(f"programs.{index}: {error}") from None

    @asynccontextmanager
    async def _body(self, request: Request) -> AsyncIterator[bytearray]:
        """The body, whose bytes count among those held until the request is through."""
        cap = self._config.body_mb << 20
        body, taken = bytearray(), 0
        try:
            if int(request.headers.get("content-length", "0")) > cap:
                raise self._too_large()
            async with asyncio.timeout(self._config.request_s):
                async for chunk in request.stream():
                    if not self._places.take_bytes(len(chunk)):
                        raise self._busy()
                    taken += len(chunk)
                    if taken > cap:
                        raise self._too_large()
                    body += chunk
        except TimeoutError:
            self._places.give_bytes(taken)
            raise Refusal(408, f"the body took longer than {self._config.request_s:g} s") from None
        except ClientDisconnect:
            self._places.give_bytes(taken)
            raise Refusal(400, "the body was cut short") from None
        except BaseException:
            self._places.give_bytes(taken)
            raise
        try:
            yield body
        finally:
            self._places.give_bytes(taken)

    async def _run(
        self, request: Request, programs: Sequence[Program], stop_at_failure: bool, until: float
    ) -> list[Report]:
        """Reports of all; of those that are not through by `until` (monotonic), that they are unknown."""
        if len(programs) > self._places.limit:
            raise Refusal(
                413, f"{len(programs)} programs are more than the {self._places.limit} that this server holds"
            )
        if not self._places.take(len(programs)):
            raise self._busy()
        over = threading.Event()
        answers = [self._admit(program, stop_at_failure, over) for program in programs]
        through = asyncio.gather(*answers, return_exceptions=True)
        gone = asyncio.ensure_future(_disconnected(request))
        try:
            await asyncio.wait(
                (through, gone), timeout=until - time.monotonic(), return_when=asyncio.FIRST_COMPLETED
            )
            return [self._report(*pair) for pair in zip(programs, answers, strict=True)]
        finally:
            # Where the client is gone or the time is over: what waits gives its place back at once, what
            # runs after the test that it is at.
            over.set()
            for task in (gone, *answers):
                task.cancel()

    def _admit(
        self, program: Program, stop_at_failure: bool, over: threading.Event
    ) -> "asyncio.Task[Report]":
        """Judge a program that has a place, and give the place back."""
        since = time.monotonic()
        loop = asyncio.get_running_loop()
        began = False

        def through(future: "Future[Report]") -> None:
            self._turns.release()
            self._places.give(future, since)

        def tell(future: "Future[Report]") -> None:  # in the pool's thread
            with suppress(RuntimeError):  # the loop is closed: the server has ended
                loop.call_soon_threadsafe(through, future)

        async def judged() -> Report:
            nonlocal began
            await self._turns.acquire()
            future = self._sandbox.submit(program, stop_at_failure, over)
            began = True
            future.add_done_callback(tell)
            # Never cancelled: the pool would keep what it had queued, and `over` makes it quick.
            return await asyncio.shield(asyncio.wrap_future(future))

        answer = asyncio.ensure_future(judged())
        answer.add_done_callback(lambda _: None if began else self._places.drop())
        return answer

    def _report(self, program: Program, answer: "asyncio.Task[Report]") -> Report:
        if not answer.done():
            return unknown(program, f"not through within the {self._config.request_s:g} s of a request")
        if answer.cancelled():
            return unknown(program, "the sandbox was closed")
        error = answer.exception()
        if error is not None:
            return unknown(program, f"the sandbox failed ({type(error).__name__}: {error})")
        return answer.result()

    def _busy(self) -> Refusal:
        return Refusal(429, "the server holds as much as it may; come again", self._places.refused())

    def _too_large(self) -> Refusal:
        return Refusal(413, f"the body is larger than {self._config.body_mb} MiB (sandbox.body_mb)")


async def _disconnected(request: Request) -> None:
    """Return when the client is gone; its body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _unknown_address(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    sentence = f"{request.method} {request.url.path}: {error.detail}; see docs/sandbox.md"
    return JSONResponse({"error": sentence}, error.status_code, error.headers)


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    content: dict[str, object] = {"error": str(error)}
    headers = {}
    if error.retry_after_s is not None:
        content["retry_after_s"] = error.retry_after_s
        headers["Retry-After"] = str(math.ceil(error.retry_after_s))
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(content, error.status, headers)
