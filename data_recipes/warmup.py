"""Warm-up traces: composed from a recipe's parts, checked before use, counted by behaviour.

A trace shows at least one of the four behaviours that k1.5's warm-up set is built around (section
2.2: planning, evaluation, reflection, exploration). Transcription comes first and arithmetic goes digit
by digit, so every step that the model must learn is supervised.

`find_fault` accepts a trace only if nothing in it is unchecked: the boxed answer is the executor's, every
fact of the drawing is there, every `a+b=c` is true, and no digit is left outside of those.
"""

import operator
import random
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

BEHAVIOURS = ("planning", "evaluation", "reflection", "exploration")
_MARKERS = {
    "planning": re.compile(r"\b(plan|first)\b"),
    "evaluation": re.compile(r"\bcheck\b"),
    "reflection": re.compile(r"\b(wait|hmm)\b"),
    "exploration": re.compile(r"\b(or|maybe) try\b|\banother way\b"),
}
_FORM = re.compile(r"<think>(?P<thinking>[^<>]+)</think>\\boxed\{(?P<answer>[^{}]+)\}")
_STATEMENT = re.compile(r"(?<![\d+*=-])(\d+(?:[-+*]\d+)+)=(\d+)(?![\d+*=-])")
_TOKEN = re.compile(r"</?think>|\\boxed|\d|[A-Za-z]+|[^\w\s]")
_OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul}


@dataclass(slots=True)
class Thoughts:
    """A trace's sentences, without their full stops. `scan`, `reading` and `work` always appear; of the four
    behaviours one or two are drawn. `scan` transcribes the drawing in a fixed order before anything is
    looked up in it: a policy trained from scratch learns to read in place long before it learns to search
    an image for what the question names. `again` is what a second look repeats."""

    plan: str
    reading: str
    work: list[str]
    again: str
    check: str
    other_way: str
    scan: list[str] = field(default_factory=list)


def compose(thoughts: Thoughts, answer: str, rng: random.Random) -> str:
    """Join the parts, with one behaviour or (one trace in six) two."""
    shown = rng.sample(BEHAVIOURS, 2 if rng.random() < 1 / 6 else 1)
    sentences = []
    if "planning" in shown:
        sentences.append(rng.choice((f"plan: {thoughts.plan}", f"first {thoughts.plan}")))
    sentences += [*thoughts.scan, thoughts.reading]
    if "reflection" in shown:
        sentences.append(rng.choice(("wait, again ", "hmm, again ")) + thoughts.again)
    sentences.extend(thoughts.work)
    if "exploration" in shown:
        sentences.append(rng.choice(("or try ", "maybe try ", "another way: ")) + thoughts.other_way)
    sentences.append(f"so {answer}")
    if "evaluation" in shown:
        sentences.append(rng.choice((f"check: {thoughts.check} ok", f"check {thoughts.check} yes")))
    return f"<think>{'. '.join(sentences)}.</think>\\boxed{{{answer}}}"


def compose_brief(answer: str) -> str:
    """A trace that answers at once."""
    return f"<think>so {answer}.</think>\\boxed{{{answer}}}"


def find_fault(trace: str, answer: str, facts: Iterable[str]) -> str | None:
    """What is wrong with a trace, or None.

    `answer` is the executor's, `facts` are the recipe's readings of the specification.
    """
    form = _FORM.fullmatch(trace)
    if form is None:
        return "not one <think> block followed by one \\boxed answer"
    if form["answer"] != answer:
        return f"boxed '{form['answer']}' but the answer is '{answer}'"
    thinking = form["thinking"]
    for expression, value in _STATEMENT.findall(thinking):
        if evaluate(expression) != int(value):
            return f"'{expression}={value}' is false"
    for fact in facts:
        if not _whole(fact).search(thinking):
            return f"does not say '{fact}'"
        thinking = _whole(fact).sub(" ", thinking)
    if not _whole(f"so {answer}").search(thinking):
        return f"does not conclude 'so {answer}'"
    residue = _STATEMENT.sub(" ", _whole(f"so {answer}").sub(" ", thinking))
    loose = re.search(r"\d+", residue)
    if loose is not None:
        return f"'{loose[0]}' stands in no checked statement"
    if not behaviours(trace):
        return "shows none of " + ", ".join(BEHAVIOURS)
    return None


def evaluate(expression: str) -> int:
    """Whole-number `+ - *` with the usual precedence; no brackets, no signs."""
    total = 0
    for sign, product in re.findall(r"([-+]?)([\d*]+)", expression):
        factors = [int(factor) for factor in product.split("*")]
        value = factors[0]
        for factor in factors[1:]:
            value *= factor
        total += -value if sign == "-" else value
    return total


def digit_steps(left: int, sign: str, right: int) -> list[str]:
    """Column arithmetic as checked statements, ones first: `ones 8+5=13 carry`, `tens 2+4+1=7`.

    Subtraction needs left >= right, multiplication a `right` of one digit.
    """
    assert sign in _OPERATIONS and right >= 0 and left >= 0
    assert (sign != "-" or left >= right) and (sign != "*" or right < 10)
    places = ("ones", "tens", "hundreds", "thousands")
    width = len(str(left)) if sign == "*" else max(len(str(left)), len(str(right)))
    steps, carry = [], 0
    for place in range(width):
        a = left // 10**place % 10
        b = right if sign == "*" else right // 10**place % 10
        if sign == "-":
            borrow = int(a - b - carry < 0)
            terms = f"{a + 10 * borrow}-{b}" + (f"-{carry}" if carry else "")
            steps.append(f"{places[place]} {terms}={a + 10 * borrow - b - carry}" + " borrow" * borrow)
            carry = borrow
            continue
        value = _OPERATIONS[sign](a, b) + carry
        terms = f"{a}{sign}{b}" + (f"+{carry}" if carry else "")
        carry = value // 10
        more = carry > 0 and place + 1 < width
        steps.append(f"{places[place]} {terms}={value}" + (" carry" if more else ""))
    return steps


def behaviours(trace: str) -> set[str]:
    """Which of the four behaviours a trace's words show."""
    return {name for name, marker in _MARKERS.items() if marker.search(trace)}


def balance(traces: Iterable[str]) -> dict[str, float]:
    """The share of traces that show each behaviour, and their mean length in word-level tokens."""
    counts: Counter[str] = Counter()
    rows = length = 0
    for trace in traces:
        rows += 1
        length += len(tokens(trace))
        counts.update(behaviours(trace))
    assert rows, "no traces to balance"
    return {name: counts[name] / rows for name in BEHAVIOURS} | {"mean_tokens": length / rows}


def tokens(text: str) -> list[str]:
    """What a tokenizer with a token a word, a digit and a sign makes of a text."""
    return _TOKEN.findall(text)


def _whole(phrase: str) -> re.Pattern[str]:
    """A phrase not continued by a letter, a digit or an operator on either side."""
    return re.compile(rf"(?<![\w+*=-]){re.escape(phrase)}(?![\w+*=-])")
