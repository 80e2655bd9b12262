"""One judgement: ask, read the verdict, ask once more where there is none."""

import time
from dataclasses import dataclass

from vlrl.chat import Message, OpenAIChat, Refused
from vlrl.config.reward_models import CotRmConfig
from vlrl.errors import EngineError, WaitTimeout
from vlrl.rewards.models.judge_prompt import RESPONSE_FORMAT, parse_verdict
from vlrl.seeds import derive_seed
from vlrl.trajectory import Status

NO_VERDICT, TIMEOUT = "no_verdict", "judge_timeout"
# These speak of one request (too long, an image that it does not take); others of the endpoint as a whole.
_OF_THE_REQUEST = frozenset((400, 413, 422))


@dataclass(slots=True, frozen=True)
class Judgement:
    """What became of one asking: the verdict, or None and why (`status`, `rule`).

    `reply` is the judge's last one; `replies` how many came, `retries` the HTTP requests beyond the first of
    each, `seconds` by the clock.
    """

    correct: bool | None
    status: Status
    rule: str
    reply: str = ""
    replies: int = 0
    retries: int = 0
    seconds: float = 0.0


def judge_once(chat: OpenAIChat, messages: list[Message], config: CotRmConfig, seed: int) -> Judgement:
    """A judgement, at most `config.timeout_s` seconds later. An error is never taken for "wrong".

    Raises:
        UserError: the endpoint refuses whatever it is asked (an unknown model, a missing key).
    """
    began, replies, retries, text = time.monotonic(), 0, 0, ""
    correct: bool | None = None
    status: Status = "grader_error"
    rule = NO_VERDICT
    try:
        for temperature in (config.temperature, config.retry_temperature):
            settings = _settings(config, temperature, derive_seed(seed, "asking", replies))
            left = began + config.timeout_s - time.monotonic()
            reply = chat.ask(messages, max(left, 0.0), **settings)
            replies, retries, text = replies + 1, retries + reply.retries, reply.text
            # What ran out of tokens ends wherever it was, perhaps within a quotation.
            correct = None if reply.finish_reason == "length" else parse_verdict(text)
            if correct is not None:
                status, rule = ("correct" if correct else "wrong"), "cot_rm"
                break
    except Refused as error:
        if error.status not in _OF_THE_REQUEST:
            raise
        rule = f"refused: {error}"
    except WaitTimeout:
        status, rule = "infra_error", TIMEOUT
    except EngineError as error:
        status, rule = "infra_error", f"judge_failed: {error}"
    return Judgement(correct, status, rule, text, replies, retries, time.monotonic() - began)


def _settings(config: CotRmConfig, temperature: float, seed: int) -> dict[str, object]:
    settings = dict(config.request)
    if config.guided:
        settings["response_format"] = RESPONSE_FORMAT
    # Some endpoints keep seeds in 32 signed bits.
    return settings | {"temperature": temperature, "seed": seed % 2**31}
