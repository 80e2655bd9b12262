"""Coloured shapes on a grid: where, how many, next to which, how far apart.

Answers are spread on purpose: a place is row and column as one two-digit number, a count joins two
counts the same way, a neighbour is a colour and a shape. Each is drawn uniformly over its range, so
that who sees no image has little to guess with.

Level 0: a 3x3 grid, one shape in each 16-pixel cell used, 48x48. Then larger cells and grids, more shapes,
jitter, tilt and noise.

A trace names every shape in reading order with its place, `red circle 12`, and then looks things up in
what it has said.
"""

import random
from typing import Any

from data_recipes import glyphs
from data_recipes.base import Choices, Recipe, Spec
from data_recipes.warmup import Thoughts

SHAPES = ("circle", "square", "triangle", "diamond")
_SIDE = (3, 4, 5, 6)
_CELL = (16, 23, 25, 35)
_SIZES = (48, 96, 128, 224)
_EXTRA = (1, 4, 6, 9)
_COUNT_MAX = (3, 5, 7, 9)
_STEPS = {"right of": (0, 1), "left of": (0, -1), "below": (1, 0), "above": (-1, 0)}
_TASKS = ("place", "count", "neighbour", "distance")

Item = tuple[int, int, str, str]  # row, column (from 1), colour, shape


class Shapes(Recipe):
    name = "shapes"
    family = "shapes"

    def choices(self, level: int) -> Choices:
        return {"tasks": _TASKS[:3] if level == 0 else _TASKS}

    def draw(self, rng: random.Random, level: int, chosen: Choices) -> Spec | None:
        task = rng.choice(chosen["tasks"])
        spec = {
            "place": _draw_place,
            "count": _draw_count,
            "neighbour": _draw_neighbour,
            "distance": _draw_distance,
        }[task](rng, level)
        spec |= {"task": task, "side": _SIDE[level]}
        spec["items"].sort()
        spec["style"] = _style(rng, level, len(spec["items"]))
        return spec

    def question(self, spec: Spec) -> str:
        of = spec["of"]
        match spec["task"]:
            case "place":
                return f"Where is the {of[0]}? Give row, then column."
            case "count":
                return f"How many {of[0]}s and how many {of[1]}s? Give 10 times the first plus the second."
            case "neighbour":
                return f"What is {spec['direction']} the {of[0]}? Give colour and shape."
        return f"How far is the {of[0]} from the {of[1]}? Give rows, then columns."

    def solve(self, spec: Spec) -> str:
        of = spec["of"]
        if spec["task"] == "count":
            first, second = (len(_places(spec, kind)) for kind in of)
            return str(10 * first + second)
        row, column = _find(spec, of[0])
        if spec["task"] == "place":
            return str(10 * row + column)
        if spec["task"] == "neighbour":
            down, right = _STEPS[spec["direction"]]
            return next(_kind(i) for i in spec["items"] if (i[0], i[1]) == (row + down, column + right))
        other_row, other_column = _find(spec, of[1])
        return str(10 * abs(row - other_row) + abs(column - other_column))

    def verifier(self, spec: Spec) -> str:
        return "exact" if spec["task"] == "neighbour" else "math"

    def facts(self, spec: Spec) -> list[str]:
        return [". ".join(_scan(spec)), *self._facts(spec)]

    def _facts(self, spec: Spec) -> list[str]:
        of = spec["of"]
        if spec["task"] == "count":
            return [_count_fact(spec, kind) for kind in of]
        facts = [_place_fact(spec, kind) for kind in of]
        if spec["task"] == "neighbour":
            down, right = _STEPS[spec["direction"]]
            row, column = _find(spec, of[0])
            facts.append(f"{spec['direction']} it {row + down}{column + right} is {self.solve(spec)}")
        return facts

    def thoughts(self, spec: Spec, rng: random.Random) -> Thoughts:
        facts, of = self._facts(spec), spec["of"]
        look = rng.choice(("I see", "here", "I find"))
        if spec["task"] == "count":
            first, second = (len(_places(spec, kind)) for kind in of)
            ones = "+".join(["1"] * second) if second > 1 else f"{second}+0"
            return Thoughts(
                plan=rng.choice(("count row by row", f"count each {of[0]}, then each {of[1]}")),
                reading=f"{look} {facts[0]}",
                work=[facts[1]],
                again=facts[0],
                check=f"10*{first}+{second}={10 * first + second}",
                other_way=f"{ones}={second}",
                scan=_scan(spec),
            )
        row, column = _find(spec, of[0])
        end = spec["side"] + 1
        if spec["task"] == "distance":
            other_row, other_column = _find(spec, of[1])
            rows, columns = sorted((row, other_row)), sorted((column, other_column))
            apart = (rows[1] - rows[0], columns[1] - columns[0])
            return Thoughts(
                plan=rng.choice(("find both, then count", f"find the {of[0]} and the {of[1]}")),
                reading=f"{look} {facts[0]}",
                work=[
                    facts[1],
                    f"rows {rows[1]}-{rows[0]}={apart[0]}",
                    f"columns {columns[1]}-{columns[0]}={apart[1]}",
                ],
                again=facts[0],
                check=f"{rows[0]}+{apart[0]}={rows[1]}, {columns[0]}+{apart[1]}={columns[1]}",
                other_way=f"10*{apart[0]}+{apart[1]}={10 * apart[0] + apart[1]}",
                scan=_scan(spec),
            )
        place = 10 * row + column
        return Thoughts(
            plan=rng.choice((f"find the {of[0]}", f"look for the {of[0]} row by row")),
            reading=f"{look} {facts[0]}",
            work=facts[1:],
            again=facts[0],
            check=f"10*{row}+{column}={place}",
            other_way=f"from the end row {end}-{end - row}={row}, column {end}-{end - column}={column}",
            scan=_scan(spec),
        )

    def render(self, spec: Spec) -> Any:
        style = spec["style"]
        size, cell, side = _SIZES[style["level"]], _CELL[style["level"]], spec["side"]
        image, pen = glyphs.blank(size, tuple(style["paper"]))
        left, top = style["at"]
        if style["level"]:
            for line in range(side + 1):
                at = line * cell
                pen.line((left + at, top, left + at, top + side * cell), fill=glyphs.GREY)
                pen.line((left, top + at, left + side * cell, top + at), fill=glyphs.GREY)
        for (row, column, colour, shape), (dx, dy, radius) in zip(
            spec["items"], style["jitter"], strict=True
        ):
            x = left + (column - 1) * cell + cell // 2 + dx
            y = top + (row - 1) * cell + cell // 2 + dy
            _draw_shape(pen, shape, x, y, radius, glyphs.COLOURS[colour])
        paper = tuple(style["paper"])
        return glyphs.disturb(image, style["angle"], style["noise"], style["noise_seed"], paper)


def _kinds(level: int) -> list[str]:
    colours = ("red", "green", "blue", "yellow", "purple", "orange")[: (4, 5, 6, 6)[level]]
    shapes = SHAPES[:3] if level == 0 else SHAPES
    return [f"{colour} {shape}" for colour in colours for shape in shapes]


def _cells(rng: random.Random, level: int) -> list[tuple[int, int]]:
    side = _SIDE[level]
    cells = [(row, column) for row in range(1, side + 1) for column in range(1, side + 1)]
    rng.shuffle(cells)
    return cells


def _item(cell: tuple[int, int], kind: str) -> Item:
    colour, shape = kind.split()
    return (*cell, colour, shape)


def _fill(rng: random.Random, level: int, cells: list[tuple[int, int]], kinds: list[str]) -> list[Item]:
    """Other shapes in the first of the free cells."""
    return [_item(cell, rng.choice(kinds)) for cell in cells[: rng.randint(2, 2 + _EXTRA[level])]]


def _target_and_others(rng: random.Random, level: int) -> tuple[str, list[str]]:
    """A coloured shape to ask for, and those that may stand beside it: at level 0 none of its colour."""
    target, *others = rng.sample(_kinds(level), len(_kinds(level)))
    if level == 0:
        others = [other for other in others if other.split()[0] != target.split()[0]]
    return target, others


def _draw_place(rng: random.Random, level: int) -> Spec:
    target, others = _target_and_others(rng, level)
    cells = _cells(rng, level)
    return {"of": [target], "items": [_item(cells[0], target), *_fill(rng, level, cells[1:], others)]}


def _draw_count(rng: random.Random, level: int) -> Spec:
    """Two shapes, or from level 2 two coloured shapes, each count uniform from 0 to a maximum."""
    kinds = _kinds(level)
    if level < 2:
        of = rng.sample([shape for shape in SHAPES if any(shape in kind for kind in kinds)], 2)
    else:
        of = rng.sample(kinds, 2)
    most = _COUNT_MAX[level]
    counts = (0, 0)
    while counts == (0, 0):
        counts = (rng.randint(0, most), rng.randint(0, most))
    cells = _cells(rng, level)
    items = []
    for kind, count in zip(of, counts, strict=True):
        matching = [other for other in kinds if _matches(other, kind)]
        items += [_item(cells.pop(), rng.choice(matching)) for _ in range(count)]
    others = [other for other in kinds if not any(_matches(other, kind) for kind in of)]
    return {"of": of, "items": items + _fill(rng, level, cells, others)}


def _draw_neighbour(rng: random.Random, level: int) -> Spec:
    side = _SIDE[level]
    direction = rng.choice(list(_STEPS))
    down, right = _STEPS[direction]
    anchor, others = _target_and_others(rng, level)
    cells = _cells(rng, level)
    start = next(c for c in cells if 1 <= c[0] + down <= side and 1 <= c[1] + right <= side)
    beside = (start[0] + down, start[1] + right)
    free = [cell for cell in cells if cell not in (start, beside)]
    items = [_item(start, anchor), _item(beside, rng.choice(others)), *_fill(rng, level, free, others)]
    return {"of": [anchor], "direction": direction, "items": items}


def _draw_distance(rng: random.Random, level: int) -> Spec:
    """Two shapes whose (rows, columns) apart is uniform over all pairs but (0, 0)."""
    side = _SIDE[level]
    first, second, *others = rng.sample(_kinds(level), len(_kinds(level)))
    code = rng.randint(1, side * side - 1)
    down, right = divmod(code, side)
    row, column = rng.randint(1, side - down), rng.randint(1, side - right)
    ends = [(row, column), (row + down, column + right)]
    if rng.random() < 0.5:
        ends = [(row + down, column), (row, column + right)]
    rng.shuffle(ends)
    free = [cell for cell in _cells(rng, level) if cell not in ends]
    items = [_item(ends[0], first), _item(ends[1], second), *_fill(rng, level, free, others)]
    return {"of": [first, second], "items": items}


def _style(rng: random.Random, level: int, count: int) -> dict[str, Any]:
    cell, free = _CELL[level], _SIZES[level] - _SIDE[level] * _CELL[level] - 1
    if level == 0:
        jitter = [(0, 0, 6)] * count
    else:
        play = cell // 10
        jitter = [
            (rng.randint(-play, play), rng.randint(-play, play), rng.randint(cell // 4, cell // 3))
            for _ in range(count)
        ]
    return {
        "level": level,
        "at": [rng.randint(free // 3, free - free // 3) if free > 0 else 0 for _ in range(2)],
        "jitter": jitter,
        "paper": glyphs.WHITE if level == 0 else rng.choice(glyphs.PAPERS),
        "angle": round(rng.uniform(-3, 3), 1) if level == 3 else 0.0,
        "noise": rng.randint(10, 50) if level == 3 else 0,
        "noise_seed": rng.getrandbits(32),
    }


def _kind(item: Item) -> str:
    return f"{item[2]} {item[3]}"


def _matches(kind: str, wanted: str) -> bool:
    """Whether `red circle` is a `circle`, a `red circle`."""
    return kind == wanted or kind.split()[1] == wanted


def _scan(spec: Spec) -> list[str]:
    """Each row of the grid: every shape with its place, a dash for each empty cell."""
    cells = {(item[0], item[1]): f"{_kind(item)} {item[0]}{item[1]}" for item in spec["items"]}
    sides = range(1, spec["side"] + 1)
    return [" ".join(cells.get((row, column), "-") for column in sides) for row in sides]


def _find(spec: Spec, kind: str) -> tuple[int, int]:
    places = [(item[0], item[1]) for item in spec["items"] if _kind(item) == kind]
    assert len(places) == 1, f"{kind} stands in {len(places)} places"
    return places[0]


def _places(spec: Spec, kind: str) -> list[str]:
    return [f"{item[0]}{item[1]}" for item in spec["items"] if _matches(_kind(item), kind)]


def _count_fact(spec: Spec, kind: str) -> str:
    places = _places(spec, kind)
    return f"{kind}s {', '.join(places) or 'none'}: {len(places)}"


def _place_fact(spec: Spec, kind: str) -> str:
    row, column = _find(spec, kind)
    return f"{kind} {row}{column}"


def _draw_shape(pen: Any, shape: str, x: int, y: int, radius: int, colour: glyphs.Colour) -> None:
    box = (x - radius, y - radius, x + radius, y + radius)
    if shape == "circle":
        pen.ellipse(box, fill=colour)
    elif shape == "square":
        pen.rectangle(box, fill=colour)
    elif shape == "triangle":
        pen.polygon([(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)], fill=colour)
    else:
        pen.polygon([(x, y - radius), (x + radius, y), (x, y + radius), (x - radius, y)], fill=colour)
