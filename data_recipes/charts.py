"""Charts to read: bars, lines and shares; one value, the sum or the difference of two, the range.

Level 0: three or four horizontal bars of a 64x64 image, a letter and a two-digit value each, one glyph a
16-pixel cell. Level 1: 96x96, other letters, bars lying or standing, shares. Level 2: 160x160, lines too,
up to six values. Level 3: 224x224, two series, and no printed values: they are even, and read off the
gridlines at every ten (shares keep their numbers).
"""

import random
from itertools import pairwise
from typing import Any

from data_recipes import chart_drawing as drawing
from data_recipes import glyphs
from data_recipes.base import Choices, Recipe, Spec
from data_recipes.warmup import Thoughts, digit_steps

_KINDS = (("rows",), ("rows", "bars", "share"), ("bars", "line", "share"), ("bars", "line", "share"))
_TASKS = ("read", "sum", "difference", "range")
_SHARE_MIN = 8
_SCANNED = 4  # charts of more values are not transcribed whole
_STEP = 2  # in an unprinted value: 3.8 pixels


class Charts(Recipe):
    name = "charts"
    family = "charts"

    def choices(self, level: int) -> Choices:
        return {"kinds": _KINDS[level], "tasks": _TASKS[:3] if level == 0 else _TASKS}

    def draw(self, rng: random.Random, level: int, chosen: Choices) -> Spec | None:
        kind, task = rng.choice(chosen["kinds"]), rng.choice(chosen["tasks"])
        two = level == 3 and kind != "share"
        series = rng.sample(("red", "green", "blue", "yellow"), 2) if two else []
        values = _values(rng, level, kind, max(1, len(series)))
        if values is None:
            return None
        count = len(values) // max(1, len(series))
        letters = list("ABCD") if level == 0 else rng.sample("ABCDEFGH", count)
        names = [f"{colour} {letter}" for colour in series for letter in letters[:count]]
        spec: Spec = {
            "kind": kind,
            "task": task,
            "series": series,
            "names": names or letters[:count],
            "values": values,
        }
        spec["of"] = _asked(rng, spec)
        spec["style"] = _style(rng, level)
        return spec

    def question(self, spec: Spec) -> str:
        of = spec["of"]
        match spec["task"]:
            case "read":
                return f"What is the value of {of[0]}?"
            case "sum":
                return f"What is {of[0]} plus {of[1]}?"
            case "difference":
                return f"How much more is {of[0]} than {of[1]}?"
        return "How much more is the largest than the smallest?"

    def solve(self, spec: Spec) -> str:
        values = [_value(spec, name) for name in spec["of"]]
        if spec["task"] == "read":
            return str(values[0])
        if spec["task"] == "sum":
            return str(values[0] + values[1])
        if spec["task"] == "difference":
            return str(values[0] - values[1])
        return str(max(spec["values"]) - min(spec["values"]))

    def facts(self, spec: Spec) -> list[str]:
        return [_scan(spec), *self._facts(spec)] if len(spec["names"]) <= _SCANNED else self._facts(spec)

    def _facts(self, spec: Spec) -> list[str]:
        facts = [f"{name} is {_value(spec, name)}" for name in self._used(spec)]
        if spec["task"] == "range":
            return [f"largest {facts[0]}", f"smallest {facts[1]}"]
        return facts

    def thoughts(self, spec: Spec, rng: random.Random) -> Thoughts:
        facts, used = self._facts(spec), self._used(spec)
        scan = [_scan(spec)] if len(spec["names"]) <= _SCANNED else []
        look = rng.choice(("I read", "I see", "it says"))
        values = [_value(spec, name) for name in used]
        if spec["task"] == "read":
            tens, ones = divmod(values[0], 10)
            return Thoughts(
                plan=rng.choice((f"find {used[0]}", f"look for {used[0]}")),
                reading=f"{look} {facts[0]}",
                work=[],
                again=facts[0],
                check=f"{10 * tens}+{ones}={values[0]}",
                other_way=f"10*{tens}+{ones}={values[0]}",
                scan=scan,
            )
        sign = "+" if spec["task"] == "sum" else "-"
        work = digit_steps(values[0], sign, values[1])
        total = values[0] + values[1] if sign == "+" else values[0] - values[1]
        back = f"{total}-{values[1]}={values[0]}" if sign == "+" else f"{total}+{values[1]}={values[0]}"
        other_way = f"{values[1]}+{values[0]}={total}" if sign == "+" else f"{values[0]}-{total}={values[1]}"
        then = "add" if sign == "+" else "subtract"
        if spec["task"] == "range":
            plan = rng.choice(("find the largest and the smallest, then subtract", "read all, then subtract"))
            reading = f"{look} " + ", ".join(facts)
        else:
            plan = rng.choice((f"read both, then {then}", f"read both and {then}"))
            reading = f"{look} {facts[0]} and {facts[1]}"
        return Thoughts(plan, reading, work, rng.choice(facts), back, other_way, scan)

    def render(self, spec: Spec) -> Any:
        return drawing.draw_chart(spec)

    def _used(self, spec: Spec) -> list[str]:
        """The names whose values the reasoning needs, in its order."""
        if spec["task"] != "range":
            return list(spec["of"])
        return sorted(spec["names"], key=lambda name: -_value(spec, name))[:: len(spec["names"]) - 1]


def _scan(spec: Spec) -> str:
    """All values in the order in which they stand: `A 43, B 86, C 80`."""
    return ", ".join(f"{name} {value}" for name, value in zip(spec["names"], spec["values"], strict=True))


def _values(rng: random.Random, level: int, kind: str, series: int) -> list[int] | None:
    """All different, so that a question about the largest has one answer; shares add up to 100."""
    low, high = ((3, 4), (3, 3), (4, 6), (4, 5))[level]
    count = rng.randint(low, high)
    if kind == "share":
        return _shares(rng, count)
    if level < 3:
        return rng.sample(range(10, 100), count)
    return [_STEP * step for step in rng.sample(range(2, 49), count * series)]


def _shares(rng: random.Random, count: int) -> list[int] | None:
    free = 100 - _SHARE_MIN * count
    cuts = [0, *sorted(rng.randint(0, free) for _ in range(count - 1)), free]
    values = [_SHARE_MIN + high - low for low, high in pairwise(cuts)]
    return values if len(set(values)) == count else None


def _asked(rng: random.Random, spec: Spec) -> list[str]:
    if spec["task"] == "range":
        return []
    asked = rng.sample(spec["names"], 1 if spec["task"] == "read" else 2)
    if spec["task"] == "difference":
        asked.sort(key=lambda name: -_value(spec, name))
    return asked


def _value(spec: Spec, name: str) -> int:
    return int(spec["values"][spec["names"].index(name)])


def _style(rng: random.Random, level: int) -> dict[str, Any]:
    colours = list(glyphs.COLOURS)
    if level:
        rng.shuffle(colours)
    return {
        "level": level,
        "colours": colours,
        "paper": rng.choice(glyphs.PAPERS) if level else glyphs.WHITE,
        "at": [rng.random(), rng.random()],
        "angle": round(rng.uniform(-2, 2), 1) if level == 3 else 0.0,
        "noise": rng.randint(10, 40) if level == 3 else 0,
        "noise_seed": rng.getrandbits(32),
    }
