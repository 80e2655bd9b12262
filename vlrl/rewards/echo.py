"""Responses that say nothing but their question."""

from vlrl.trajectory import Prompt

_MAX_CHARS = 100_000


def echoes(prompt: Prompt, text: str) -> bool:
    """Whether `text` is the user's last message again, but for spacing, case and image markers."""
    if len(text) > _MAX_CHARS:
        return False
    asked = next((m["content"] for m in reversed(prompt.messages) if m["role"] == "user"), "")
    question = _plain(asked.replace("<image>", ""))
    return bool(question) and _plain(text) == question


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
