"""Charts as inline SVG, drawn by hand: no script, no request, colours from the page's style sheet."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

MAX_POINTS = 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 10, 10, 22


@dataclass(slots=True, frozen=True)
class Series:
    """A line: `(x, y)` points by rising x, None for a gap, and optional `(low, high)` bounds a point.

    `style` is a CSS class: it colours the line.
    """

    label: str
    points: Sequence[tuple[float, float | None]]
    style: str = "s0"
    bounds: Sequence[tuple[float, float]] = field(default=())
    dots: bool = False


def line_chart(
    series: Sequence[Series],
    width: int = 340,
    height: int = 150,
    y_range: tuple[float, float] | None = None,
    percent: bool = False,
) -> str:
    """An SVG of lines over a shared x axis (steps); `y_range` fixes the y axis.

    Long series are thinned to `MAX_POINTS` means, with a moving average drawn over a paler line.
    """
    values = [y for s in series for _, y in s.points if y is not None]
    values += [bound for s in series for pair in s.bounds for bound in pair]
    if not values:
        return '<p class="empty">no values yet</p>'
    xs = [x for s in series for x, _ in s.points]
    frame = _Frame(min(xs), max(xs), *(y_range or _padded(min(values), max(values))), width, height)
    drawn = [_axes(frame, percent)]
    drawn += [_band(frame, s) for s in series if s.bounds]
    drawn += [_line(frame, s, percent) for s in series]
    label = escape(", ".join(s.label for s in series))
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{label}">{"".join(drawn)}</svg>'


def nice_ticks(low: float, high: float, count: int = 4) -> list[float]:
    """About `count` round numbers (1, 2, 2.5 or 5 times a power of ten apart) within [low, high]."""
    if not high > low:
        return [low]
    raw = (high - low) / count
    power = 10 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    ticks: list[float] = []
    while (first + len(ticks)) * step <= high + step * 1e-9:
        ticks.append((first + len(ticks)) * step)
    return ticks


def thin(points: Sequence[tuple[float, float | None]]) -> list[tuple[float, float | None]]:
    """At most `MAX_POINTS` points: means of equal runs of neighbours (a run of gaps stays a gap)."""
    size = -(-len(points) // MAX_POINTS)
    if size <= 1:
        return list(points)
    out: list[tuple[float, float | None]] = []
    for start in range(0, len(points), size):
        chunk = points[start : start + size]
        ys = [y for _, y in chunk if y is not None]
        out.append((chunk[len(chunk) // 2][0], sum(ys) / len(ys) if ys else None))
    return out


def smooth(points: Sequence[tuple[float, float | None]]) -> list[tuple[float, float | None]]:
    """Centred moving average over about a twelfth of the points: unlike a trailing one it does not lag."""
    reach = max(1, len(points) // 24)
    out: list[tuple[float, float | None]] = []
    for i, (x, _) in enumerate(points):
        near = min(reach, i, len(points) - 1 - i)  # narrower, but still centred, towards the ends
        ys = [y for _, y in points[i - near : i + near + 1] if y is not None]
        out.append((x, sum(ys) / len(ys) if ys else None))
    return out


@dataclass(slots=True, frozen=True)
class _Frame:
    """Maps data to the SVG's coordinates."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float
    width: int
    height: int

    def x(self, value: float) -> float:
        share = (value - self.x_low) / (self.x_high - self.x_low) if self.x_high > self.x_low else 0.5
        return round(_LEFT + share * (self.width - _LEFT - _RIGHT), 1)

    def y(self, value: float) -> float:
        share = (value - self.y_low) / (self.y_high - self.y_low)
        return round(self.height - _BOTTOM - share * (self.height - _TOP - _BOTTOM), 1)


def _padded(low: float, high: float) -> tuple[float, float]:
    pad = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    return low - pad, high + pad


def _axes(frame: _Frame, percent: bool) -> str:
    parts = []
    for tick in nice_ticks(frame.y_low, frame.y_high):
        y = frame.y(tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{frame.width - _RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text class="tick end" x="{_LEFT - 6}" y="{y + 3.5}">{_label(tick, percent)}</text>')
    for tick in nice_ticks(frame.x_low, frame.x_high):
        if tick == int(tick):
            parts.append(
                f'<text class="tick mid" x="{frame.x(tick)}" y="{frame.height - 6}">{_label(tick)}</text>'
            )
    return "".join(parts)


def _label(value: float, percent: bool = False) -> str:
    if percent:
        return f"{value * 100:.0f}%"
    if value and (abs(value) < 1e-3 or abs(value) >= 1e6):
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k"
    return f"{value:.6g}"


def _band(frame: _Frame, series: Series) -> str:
    assert len(series.bounds) == len(series.points)
    xs = [frame.x(x) for x, _ in series.points]
    if len(xs) == 1:
        low, high = series.bounds[0]
        return (
            f'<line class="bar {series.style}" x1="{xs[0]}" x2="{xs[0]}" '
            f'y1="{frame.y(low)}" y2="{frame.y(high)}"/>'
        )
    upper = [f"{x},{frame.y(high)}" for x, (_, high) in zip(xs, series.bounds, strict=True)]
    lower = [f"{x},{frame.y(low)}" for x, (low, _) in zip(xs, series.bounds, strict=True)]
    return f'<polygon class="band {series.style}" points="{" ".join(upper + lower[::-1])}"/>'


def _line(frame: _Frame, series: Series, percent: bool) -> str:
    points = thin(series.points)
    if series.dots or len(points) < 24:
        drawn = _path(frame, points, series.style)
    else:
        drawn = _path(frame, points, f"{series.style} pale") + _path(frame, smooth(points), series.style)
    if series.dots or len(points) == 1:
        for x, y in points:
            if y is not None:
                shown = f"{y * 100:.1f}%" if percent else f"{y:.4g}"
                drawn += (
                    f'<circle class="{series.style}" cx="{frame.x(x)}" cy="{frame.y(y)}" r="3.2">'
                    f"<title>{escape(series.label)}, step {x:g}: {shown}</title></circle>"
                )
    return drawn


def _path(frame: _Frame, points: Sequence[tuple[float, float | None]], style: str) -> str:
    commands, pen_down = [], False
    for x, y in points:
        if y is not None:
            commands.append(f"{'L' if pen_down else 'M'}{frame.x(x)} {frame.y(y)}")
        pen_down = y is not None
    return f'<path class="{style}" d="{"".join(commands)}"/>'
