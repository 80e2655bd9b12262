"""A model behind an OpenAI-compatible endpoint (vLLM's, or any other), asked one question at a time."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx

from vlrl.errors import EngineError, UserError, WaitTimeout

# Of a role and a content: a string, or a list of OpenAI's content parts.
Message = dict[str, Any]

_RETRIED = frozenset((408, 429, 500, 502, 503, 504))
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 30.0


class Chat(Protocol):
    """Whatever answers a conversation."""

    def __call__(self, messages: Sequence[Message]) -> str:
        """The text of the answer."""
        ...


@dataclass(slots=True, frozen=True)
class Reply:
    """An answer's text, why it ended (`stop`, `length`, ...), and how often it had to be asked for again."""

    text: str
    finish_reason: str
    retries: int


class Refused(UserError):
    """The endpoint does not take a request, and would not take it again; `status` is HTTP's."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class OpenAIChat:
    """`POST {url}/chat/completions`; safe to use from several threads.

    The key is read from the environment variable that `key_variable` names, where it is set. An endpoint
    that is busy or restarts is asked again until `timeout_s` seconds have passed. `socket` is the Unix socket
    of an endpoint that has no address; `before_retry` may raise what `ask` is to end with.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        temperature: float = 0.0,
        max_tokens: int = 4096,
        timeout_s: float = 600.0,
        key_variable: str = "OPENAI_API_KEY",
        connections: int = 100,
        socket: Path | None = None,
        before_retry: Callable[[], None] | None = None,
    ) -> None:
        key = os.environ.get(key_variable)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._before_retry = before_retry
        self._url, self._timeout_s = f"{url.rstrip('/')}/chat/completions", timeout_s
        self._settings = {"model": model, "temperature": temperature, "max_tokens": max_tokens}
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        transport = httpx.HTTPTransport(uds=str(socket), limits=limits) if socket else None
        self._client = httpx.Client(headers=headers, limits=limits, transport=transport)

    def __call__(self, messages: Sequence[Message]) -> str:
        """The text of the answer; raises as `ask` does."""
        return self.ask(messages).text

    def ask(self, messages: Sequence[Message], timeout_s: float | None = None, **settings: Any) -> Reply:
        """The answer, within `timeout_s` seconds; `settings` are fields of the request.

        Raises:
            Refused: the endpoint does not take the request (an unknown model, a missing key, too long).
            WaitTimeout: it is not there, or busy, or not done, for as long as the deadline lasts.
            EngineError: what it answers is no completion.
        """
        seconds = self._timeout_s if timeout_s is None else timeout_s
        body = {**self._settings, **settings, "messages": list(messages)}
        deadline, pause, tries = time.monotonic() + seconds, _FIRST_PAUSE_S, 0
        while deadline - time.monotonic() > 0:
            try:
                answer = self._post(body, deadline)
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.status_code not in _RETRIED:
                return _reply(answer, self._url, tries)
            if self._before_retry is not None:
                self._before_retry()
            time.sleep(max(0.0, min(pause, deadline - time.monotonic())))
            pause, tries = min(2 * pause, _LONGEST_PAUSE_S), tries + 1
        raise WaitTimeout(f"an answer of {self._url}", seconds)

    def _post(self, body: dict[str, Any], deadline: float) -> httpx.Response:
        """One request. httpx counts its timeout anew with each piece that comes, so it is checked here."""
        left = deadline - time.monotonic()
        with self._client.stream("POST", self._url, json=body, timeout=max(left, 0.001)) as answer:
            pieces = []
            for piece in answer.iter_bytes():
                pieces.append(piece)
                if time.monotonic() > deadline:
                    raise httpx.ReadTimeout("the answer comes too slowly")
        return httpx.Response(answer.status_code, content=b"".join(pieces))

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()


def _reply(answer: httpx.Response, url: str, retries: int) -> Reply:
    if answer.is_client_error:
        message = f"{url} refuses ({answer.status_code}): {answer.text.strip()[:300]}"
        raise Refused(message, answer.status_code)
    try:
        choice = answer.json()["choices"][0]
        text = choice["message"]["content"] or ""
        if not isinstance(text, str):
            raise TypeError
        return Reply(text, str(choice.get("finish_reason") or ""), retries)
    except (ValueError, LookupError, TypeError, AttributeError):
        raise EngineError(f"{url} answered with no completion: {answer.text.strip()[:300]}") from None
