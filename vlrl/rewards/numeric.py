"""A plain number near enough to the ground truth, and what near enough means for a row."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache

from vlrl.errors import UserError
from vlrl.rewards import arguments
from vlrl.rewards.degenerate import degenerate
from vlrl.rewards.plain_number import PlainNumber, other_things, parse_number
from vlrl.rewards.tidy import tidy
from vlrl.rewards.units import NO_UNIT, read_unit
from vlrl.rewards.verifier import AnswerVerifier, Submission, correct, wrong
from vlrl.trajectory import Prompt, Verdict

ANSWER_TYPES = ("value", "year", "count", "label")
SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}

_MAX_CHARS = 200
_GROUP_SPACE = re.compile(r"(?<=[0-9])[\u00a0\u2009\u202f](?=[0-9]{3}(?![0-9]))")
_US_DOLLAR = re.compile(r"US ?\\?\$")
_CURRENCY = re.compile(r" ?(?:€|£|¥|\b(?:EUR|GBP|JPY)\b) ?")
_CURRENCIES = {"€": "euro", "EUR": "euro", "£": "gbp", "GBP": "gbp"}
# A lone letter only where it touches its digits: 5M is a figure, 5 M may be anything.
_SHORT_SCALE = re.compile(r"(?<=[0-9])(?:(K|k|M|B|T)| ?(mn|mln|bn|bln|tn|trn))(?![A-Za-z0-9])")
_SHORT = {"k": "thousand", "m": "million", "b": "billion", "t": "trillion"}
_SCALE_WORD = re.compile(r"(?<![a-z])(?:thousand|million|billion|trillion)(?![a-z])", re.IGNORECASE)


@dataclass(slots=True, frozen=True)
class Closeness:
    """How near a number must be: within the larger of `absolute` and `relative` times the ground truth.

    Years and counts are equal or not. `scale` is what one unit of the ground truth stands for, where the
    question asks for millions, say: 5 is then met by 5 and by 5 million.
    """

    absolute: Fraction = Fraction(0)
    relative: Fraction = Fraction(0)
    answer_type: str = "value"
    scale: str = ""

    def meets(self, target: PlainNumber, given: PlainNumber, text: str) -> bool:
        """Whether `given`, read from `text`, is near enough to `target`."""
        if other_things(target, given):
            return False
        value = given.value
        if NO_UNIT not in (target.unit, given.unit):
            if target.unit.measures != given.unit.measures:
                return False
            value *= given.unit.size / target.unit.size
        if self.answer_type in ("year", "count"):
            return value == target.value and given.percent == target.percent
        readings = [value]
        if given.percent != target.percent:
            readings.append(value / 100 if given.percent else value * 100)
        if self.scale and _SCALE_WORD.search(text):
            readings = [value / SCALES[self.scale]]
        allowed = max(self.absolute, self.relative * abs(target.value))
        return any(abs(reading - target.value) <= allowed for reading in readings)


@lru_cache(maxsize=4096)  # lists and tables compare each number many times
def read_number(text: str) -> tuple[PlainNumber, str] | None:
    """The plain number that an answer is, beside the text that it was read from; None where it is none.

    Beyond `parse_number`: currency signs, `5.2M` and `3 bn`, thousands set apart by no-break spaces.
    """
    if len(text) > _MAX_CHARS:
        return None
    text = _US_DOLLAR.sub("$", _GROUP_SPACE.sub(",", text))
    currency = _CURRENCY.search(text)
    if currency:
        text = text[: currency.start()] + text[currency.end() :]
    text = _SHORT_SCALE.sub(lambda match: " " + _SHORT[match.group().strip()[0].lower()], tidy(text))
    number = parse_number(text)
    if number is None or (currency and number.unit != NO_UNIT):
        return None
    if currency:
        unit = read_unit(_CURRENCIES.get(currency.group().strip(), "yen"))
        assert unit is not None
        number = replace(number, unit=unit)
    return number, text


def read_closeness(prompt: Prompt) -> Closeness:
    """What `tolerance` (absolute, in the ground truth's units), `relative_tolerance` (a share in [0, 1),
    such as the 0.05 of ChartQA's relaxed accuracy), `answer_type` and `scale` say; exact by default.

    Raises:
        UserError: one of them is unusable.
    """
    return Closeness(
        absolute=arguments.exact(prompt, "tolerance"),
        relative=arguments.exact(prompt, "relative_tolerance", high=0.99),
        answer_type=arguments.choice(prompt, "answer_type", ANSWER_TYPES, "value"),
        scale=arguments.choice(prompt, "scale", tuple(SCALES), "million") if "scale" in prompt.extra else "",
    )


class NumericVerifier(AnswerVerifier):
    """A plain number near the ground truth, as `read_closeness` says.

    A percentage and a plain number compare either way: 45% meets 45 and 0.45. A unit may be left out or
    converted (1.5 km, 1500 m), not changed. Rules: those of `degenerate`, `tolerance`, `not_a_number`.
    """

    def check(self, prompt: Prompt) -> None:
        self._target(prompt)

    def judge(self, submissions: Sequence[Submission]) -> list[Verdict]:
        return [self._judge_one(s) for s in submissions]

    def _judge_one(self, submission: Submission) -> Verdict:
        answer = submission.answer
        target, closeness = self._target(submission.prompt)
        if reason := degenerate(submission.prompt.ground_truth, answer):
            return wrong(answer, reason)
        number = read_number(answer)
        if number is None:
            return wrong(answer, "not_a_number")
        return (
            correct(answer, "tolerance") if closeness.meets(target, *number) else wrong(answer, "tolerance")
        )

    def _target(self, prompt: Prompt) -> tuple[PlainNumber, Closeness]:
        target = read_number(prompt.ground_truth)
        if target is None:
            raise UserError(
                f"{prompt.name}: the ground truth {prompt.ground_truth[:80]!r} is no plain number; "
                "use the verifier 'chart' for a label, 'math' for an expression"
            )
        closeness = read_closeness(prompt)
        if closeness.answer_type == "label":
            raise UserError(f"{prompt.name}: answer_type 'label' is no number's; use the verifier 'chart'")
        return target[0], closeness
