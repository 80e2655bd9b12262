"""A model behind an OpenAI-compatible endpoint (vLLM's, or any other), asked one question at a time."""

import os
import time
from collections.abc import Sequence
from typing import Protocol

import httpx

from vlrl.errors import EngineError, UserError, WaitTimeout

Message = dict[str, str]

_RETRIED = frozenset((408, 429, 500, 502, 503, 504))
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 30.0


class Chat(Protocol):
    """Whatever answers a conversation."""

    def __call__(self, messages: Sequence[Message]) -> str:
        """The text of the answer."""
        ...


class OpenAIChat:
    """`POST {url}/chat/completions`; safe to use from several threads.

    The key is read from the environment variable that `key_variable` names, where it is set. An endpoint
    that is busy or restarts is asked again until `timeout_s` seconds have passed.
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
    ) -> None:
        key = os.environ.get(key_variable)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._url, self._timeout_s = f"{url.rstrip('/')}/chat/completions", timeout_s
        self._settings = {"model": model, "temperature": temperature, "max_tokens": max_tokens}
        self._client = httpx.Client(headers=headers)

    def __call__(self, messages: Sequence[Message]) -> str:
        """
        Raises:
            UserError: the endpoint refuses the request (an unknown model, a missing key).
            WaitTimeout: it is not there, or busy, for as long as the deadline lasts.
            EngineError: what it answers is no completion.
        """
        deadline, pause = time.monotonic() + self._timeout_s, _FIRST_PAUSE_S
        while (left := deadline - time.monotonic()) > 0:
            try:
                answer = self._client.post(
                    self._url, json={**self._settings, "messages": list(messages)}, timeout=left
                )
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.status_code not in _RETRIED:
                return _text(answer, self._url)
            time.sleep(max(0.0, min(pause, deadline - time.monotonic())))
            pause = min(2 * pause, _LONGEST_PAUSE_S)
        raise WaitTimeout(f"an answer of {self._url}", self._timeout_s)

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()


def _text(answer: httpx.Response, url: str) -> str:
    if answer.is_client_error:
        raise UserError(f"{url} refuses ({answer.status_code}): {answer.text.strip()[:300]}")
    try:
        return answer.json()["choices"][0]["message"]["content"] or ""
    except (ValueError, LookupError, TypeError):
        raise EngineError(f"{url} answered with no completion: {answer.text.strip()[:300]}") from None
