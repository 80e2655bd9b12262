"""Arithmetic drawn as an image, and its twin in plain text: same problems, same traces.

Level 0: two two-digit numbers in a column, one glyph a 16-pixel cell of a 64x64 image. Level 1: two or
three digits, one coloured line anywhere in 96x96, with multiplication. Level 2: three terms on several
lines of 128x128. Level 3: up to four terms, some as words, in an outline font on a noisy, tilted 224x224.
"""

import random
import re
from typing import Any

from data_recipes import glyphs
from data_recipes.base import Choices, Recipe, Spec
from data_recipes.warmup import Thoughts, digit_steps, evaluate

SIZES = (64, 96, 128, 224)
# fmt: off
_UNITS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)
# fmt: on
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_OPERATOR_WORDS = {"+": "plus", "-": "minus", "*": "times"}
_TILT = 5.0


class TextArithmetic(Recipe):
    name = "text_arithmetic"
    family = "arithmetic"

    def choices(self, level: int) -> Choices:
        return {"operators": ("+", "-") if level == 0 else ("+", "-", "*")}

    def draw(self, rng: random.Random, level: int, chosen: Choices) -> Spec | None:
        count = (2, 2, 3, rng.choice((3, 4)))[level]
        operators = [rng.choice(chosen["operators"]) for _ in range(count - 1)]
        numbers = [rng.randint(10, 999 if level == 1 and rng.random() < 0.5 else 99) for _ in range(count)]
        for place, sign in enumerate(operators):
            if sign == "*":
                numbers[place + 1] = rng.randint(2, 9)
                if place and operators[place - 1] == "*":
                    return None
        spec: Spec = {"numbers": numbers, "operators": operators}
        spec["style"] = _style(rng, level, count)
        return spec if all(value >= 0 for _, value in _running(spec)) and _fits(spec) else None

    def question(self, spec: Spec) -> str:
        return f"What is {_shown(spec)}?"

    def solve(self, spec: Spec) -> str:
        return str(evaluate(expression(spec)))

    def render(self, spec: Spec) -> Any:
        return None

    def facts(self, spec: Spec) -> list[str]:
        return [expression(spec)]

    def thoughts(self, spec: Spec, rng: random.Random) -> Thoughts:
        numbers, operators = spec["numbers"], spec["operators"]
        whole, total = expression(spec), self.solve(spec)
        look = rng.choice(("I read", "it says", "I see"))
        if len(numbers) == 2:
            work = digit_steps(numbers[0], operators[0], numbers[1])
            check, other_way = _two_ways(numbers[0], operators[0], numbers[1])
            then = {"+": "add", "-": "subtract", "*": "multiply"}[operators[0]]
        else:
            work = [f"{step}={value}" for step, value in _running(spec)]
            check, other_way = f"{whole}={total}", _by_sign(spec)
            then = "go step by step"
        plan = rng.choice((f"read, then {then}", f"read and {then}"))
        return Thoughts(plan, f"{look} {whole}", work, whole, check, other_way)


class RenderedArithmetic(TextArithmetic):
    name = "rendered_arithmetic"

    def question(self, spec: Spec) -> str:
        return "What is the result?"

    def render(self, spec: Spec) -> Any:
        return (_draw_column, _draw_line, _draw_lines, _draw_words)[spec["style"]["level"]](spec)


def expression(spec: Spec) -> str:
    """The problem in digits and signs, as in `12+3*4`."""
    signs = ["", *spec["operators"]]
    return "".join(f"{sign}{number}" for sign, number in zip(signs, spec["numbers"], strict=True))


def number_words(number: int) -> str:
    """English for 0 to 99."""
    if number < 20:
        return _UNITS[number]
    tens, ones = divmod(number, 10)
    return _TENS[tens - 2] + (f" {_UNITS[ones]}" if ones else "")


def _style(rng: random.Random, level: int, count: int) -> dict[str, Any]:
    if level == 0:
        return {"level": 0}
    return {
        "level": level,
        "ink": rng.choice(glyphs.INKS),
        "paper": rng.choice(glyphs.PAPERS),
        "at": [rng.random(), rng.random()],
        "scale": 2 if level == 1 else rng.choice((1, 2)),
        "font": rng.randint(14, 20),
        "as_words": [level == 3 and rng.random() < 0.4 for _ in range(2 * count - 1)],
        "angle": round(rng.uniform(-_TILT, _TILT), 1) if level == 3 else 0.0,
        "noise": rng.randint(10, 60) if level == 3 else 0,
        "noise_seed": rng.getrandbits(32),
    }


def _fits(spec: Spec) -> bool:
    return spec["style"]["level"] != 1 or glyphs.text_width(expression(spec), 2) <= SIZES[1] - 4


def _running(spec: Spec) -> list[tuple[str, int]]:
    """The steps of the evaluation, products first and then from the left: (`12+12`, 24)."""
    steps, terms, signs = [], [spec["numbers"][0]], []
    for sign, number in zip(spec["operators"], spec["numbers"][1:], strict=True):
        if sign == "*":
            steps.append((f"{terms[-1]}*{number}", terms[-1] * number))
            terms[-1] *= number
        else:
            terms.append(number)
            signs.append(sign)
    total = terms[0]
    for sign, term in zip(signs, terms[1:], strict=True):
        value = total + term if sign == "+" else total - term
        steps.append((f"{total}{sign}{term}", value))
        total = value
    return steps


def _two_ways(left: int, sign: str, right: int) -> tuple[str, str]:
    """A check by the inverse, and another way to the same result."""
    total = evaluate(f"{left}{sign}{right}")
    if sign == "*":
        tens, ones = left // 10 * 10, left % 10
        parts = f"{tens}*{right}={tens * right}, {ones}*{right}={ones * right}"
        return f"{right}*{left}={total}", f"{parts}, {tens * right}+{ones * right}={total}"
    if sign == "+":
        return f"{total}-{right}={left}", f"{right}+{left}={total}"
    return f"{total}+{right}={left}", f"{left}-{total}={right}"


def _by_sign(spec: Spec) -> str:
    """All that is added, all that is taken away, then the difference; or the sum from the other end."""
    terms = expression(spec).replace("-", "+-").split("+")
    plus = [term for term in terms if not term.startswith("-")]
    minus = [term[1:] for term in terms if term.startswith("-")]
    if not minus:
        return f"{'+'.join(reversed(plus))}={evaluate('+'.join(plus))}"
    gains, losses = evaluate("+".join(plus)), evaluate("+".join(minus))
    parts = [f"{'+'.join(plus)}={gains}"] if plus != [str(gains)] else []
    if minus != [str(losses)]:
        parts.append(f"{'+'.join(minus)}={losses}")
    return ", ".join([*parts, f"{gains}-{losses}={gains - losses}"])


def _shown(spec: Spec) -> str:
    """The problem as the picture shows it, words where it has words."""
    if spec["style"]["level"] < 3:
        return expression(spec)
    return " ".join(_word_items(spec))


def _word_items(spec: Spec) -> list[str]:
    items, as_words = [], spec["style"]["as_words"]
    for place, number in enumerate(spec["numbers"]):
        if place:
            sign = spec["operators"][place - 1]
            items.append(_OPERATOR_WORDS[sign] if as_words[2 * place - 1] else sign)
        items.append(number_words(number) if as_words[2 * place] else str(number))
    return items


def _draw_column(spec: Spec) -> Any:
    image, pen = glyphs.blank(SIZES[0])
    for row, number in enumerate(spec["numbers"], start=1):
        for column, digit in enumerate(str(number), start=2):
            glyphs.put_in_cell(image, row, column, digit)
    glyphs.put_in_cell(image, 2, 1, spec["operators"][0])
    pen.rectangle((16, 50, 63, 51), fill=glyphs.BLACK)
    return image


def _draw_line(spec: Spec) -> Any:
    return _draw_text([expression(spec)], spec["style"], SIZES[1])


def _draw_lines(spec: Spec) -> Any:
    # A product stays on one line: stacked, it would look as if it came last.
    lines = re.findall(r"[-+]?[\d*]+", expression(spec))
    return _draw_text(lines, spec["style"], SIZES[2])


def _draw_text(lines: list[str], style: dict[str, Any], size: int) -> Any:
    image, _ = glyphs.blank(size, tuple(style["paper"]))
    scale = style["scale"]
    height = 9 * scale
    free_x = size - max(glyphs.text_width(line, scale) for line in lines)
    free_y = size - height * len(lines)
    x, y = (int(part * free) for part, free in zip(style["at"], (free_x, free_y), strict=True))
    for number, line in enumerate(lines):
        glyphs.put_text(image, (x, y + number * height), line, scale, tuple(style["ink"]))
    return image


def _draw_words(spec: Spec) -> Any:
    style, size = spec["style"], SIZES[3]
    image, pen = glyphs.blank(size, tuple(style["paper"]))
    font = glyphs.outline_font(style["font"])
    shown = " ".join(item.replace("*", "x") for item in _word_items(spec))
    lines = [""]
    for word in shown.split():
        longer = f"{lines[-1]} {word}".strip()
        if pen.textlength(longer, font=font) > size - 48:
            lines.append(word)
        else:
            lines[-1] = longer
    height = style["font"] + 6
    # The tilt moves a corner by a tenth of the side at most, hence the margin.
    free = size - 48 - max(int(pen.textlength(line, font=font)) for line in lines)
    x, y = 24 + int(style["at"][0] * free), 24 + int(style["at"][1] * (size - 48 - height * len(lines)))
    for number, line in enumerate(lines):
        pen.text((x, y + number * height), line, fill=tuple(style["ink"]), font=font)
    return glyphs.disturb(image, style["angle"], style["noise"], style["noise_seed"], tuple(style["paper"]))
