"""The pictures of `charts`: lying bars, standing bars, lines and shares, from a specification."""

import math
from typing import Any

from data_recipes import glyphs
from data_recipes.base import Spec
from data_recipes.glyphs import BLACK, CELL, COLOURS, GREY, WHITE

SIZES = (64, 96, 160, 224)
_TOP = 100  # the axis ends here


def draw_chart(spec: Spec) -> Any:
    """An RGB image of `SIZES[level]` pixels a side."""
    style = spec["style"]
    paper = tuple(style["paper"])
    image, pen = glyphs.blank(SIZES[style["level"]], paper)
    if spec["kind"] == "rows":
        _draw_rows(image, pen, spec)
    elif spec["kind"] == "share":
        _draw_share(image, pen, spec)
    else:
        _draw_axes(image, pen, spec)
    return glyphs.disturb(image, style["angle"], style["noise"], style["noise_seed"], paper)


def _draw_rows(image: Any, pen: Any, spec: Spec) -> None:
    """A row a bar: letter, a bar one cell long at 100 (two from level 1), and the value's two digits."""
    style = spec["style"]
    cells = 1 if style["level"] == 0 else 2
    free = (image.width - (3 + cells) * CELL, image.height - len(spec["names"]) * CELL)
    left, top = (
        (0, 0) if style["level"] == 0 else (int(p * f) for p, f in zip(style["at"], free, strict=True))
    )
    for row, (name, value) in enumerate(zip(spec["names"], spec["values"], strict=True)):
        y = top + row * CELL
        bar = (left + CELL, y + 3, left + CELL + cells * CELL * value // _TOP, y + 12)
        pen.rectangle(bar, fill=COLOURS[style["colours"][row]])
        for column, character in ((0, name), (1 + cells, str(value)[0]), (2 + cells, str(value)[1])):
            image.paste(BLACK, (left + column * CELL + 3, y + 1), glyphs.glyph(character, 2))


def _draw_axes(image: Any, pen: Any, spec: Spec) -> None:
    """Standing bars or lines over letters; values printed above, or from level 3 gridlines with numbers."""
    style, size = spec["style"], image.width
    printed = style["level"] < 3
    left, right, bottom = (2 if printed else 30), size - 2, size - 20
    height = bottom - (20 if printed else 12)
    if not printed:
        _draw_grid(image, pen, left, right, bottom, height)
        _draw_legend(image, pen, spec)
    pen.line((left, bottom, right, bottom), fill=BLACK)
    series = spec["series"] or [""]
    count = len(spec["names"]) // len(series)
    slot = (right - left) / count
    for number, colour in enumerate(series):
        fill = COLOURS[colour or style["colours"][0]]
        points = []
        for place in range(count):
            value = spec["values"][number * count + place]
            y = bottom - round(height * value / _TOP)
            middle = left + slot * (place + 0.5)
            points.append((round(middle), y))
            if spec["kind"] == "bars":
                width = slot * 0.7 / len(series)
                x = round(middle + (number - len(series) / 2) * width)
                pen.rectangle((x, y, x + round(width) - 1, bottom - 1), fill=fill)
        if spec["kind"] == "line":
            pen.line(points, fill=fill, width=2)
            for x, y in points:
                pen.ellipse((x - 3, y - 3, x + 3, y + 3), fill=fill)
        for place, (x, y) in enumerate(points):
            if printed:
                _put_number(image, pen, (x, y - 17), spec["values"][number * count + place], style)
            if number == 0:
                letter = spec["names"][place][-1]
                glyphs.put_text(image, (x - 5, bottom + 4), letter, 2, BLACK)


def _put_number(image: Any, pen: Any, at: tuple[int, int], value: int, style: dict[str, Any]) -> None:
    """Two digits centred at x, their top at y, on paper of their own where a line may pass."""
    text = str(value)
    x, y = at[0] - glyphs.text_width(text, 2) // 2, at[1]
    pen.rectangle((x - 1, y - 1, x + glyphs.text_width(text, 2), y + 14), fill=tuple(style["paper"]))
    glyphs.put_text(image, (x, y), text, 2, BLACK)


def _draw_grid(image: Any, pen: Any, left: int, right: int, bottom: int, height: int) -> None:
    for value in range(0, _TOP + 1, 10):
        y = bottom - round(height * value / _TOP)
        pen.line((left, y, right, y), fill=GREY)
        if value % 20 == 0:
            text = str(value)
            glyphs.put_text(image, (left - 3 - glyphs.text_width(text, 1), y - 3), text, 1, BLACK)


def _draw_legend(image: Any, pen: Any, spec: Spec) -> None:
    for place, colour in enumerate(spec["series"]):
        x = image.width // 2 - 20 + 24 * place
        pen.rectangle((x, 1, x + 16, 7), fill=COLOURS[colour])


def _draw_share(image: Any, pen: Any, spec: Spec) -> None:
    """A pie from twelve o'clock on; letter and per cent in, or at level 2 and 3 beside, each slice."""
    style, size = spec["style"], image.width
    scale = 1 if style["level"] == 1 else 2
    middle, radius = size / 2, size / 2 - 2
    start = -90.0
    for place, value in enumerate(spec["values"]):
        angle = 360 * value / 100
        box = (middle - radius, middle - radius, middle + radius, middle + radius)
        pen.pieslice(box, start, start + angle, fill=COLOURS[style["colours"][place]], outline=WHITE)
        start += angle
    start = -90.0
    for name, value in zip(spec["names"], spec["values"], strict=True):
        angle = 360 * value / 100
        turn = math.radians(start + angle / 2)
        text = f"{name}{value}"
        width, height = glyphs.text_width(text, scale), glyphs.GLYPH_HEIGHT * scale
        x = round(middle + 0.68 * radius * math.cos(turn) - width / 2)
        y = round(middle + 0.68 * radius * math.sin(turn) - height / 2)
        pen.rectangle((x - 1, y - 1, x + width, y + height), fill=WHITE)
        glyphs.put_text(image, (x, y), text, scale, BLACK)
        start += angle
