"""A 5x7 bitmap alphabet and the few drawing helpers that every recipe shares.

Bitmap glyphs are the same pixels under every Pillow and FreeType, and at scale 2 (10x14 pixels) one of
them sits inside a 16-pixel cell: one image token of a vision tower with patch 8 and a 2x2 merge.
"""

import io
import random
from functools import cache
from typing import Any

from PIL import Image, ImageChops, ImageDraw, ImageFont

CELL = 16
GLYPH_WIDTH, GLYPH_HEIGHT = 5, 7

Colour = tuple[int, int, int]
WHITE: Colour = (255, 255, 255)
BLACK: Colour = (0, 0, 0)
GREY: Colour = (190, 190, 190)
COLOURS: dict[str, Colour] = {
    "red": (220, 30, 30),
    "green": (30, 160, 50),
    "blue": (40, 70, 220),
    "yellow": (235, 195, 0),
    "purple": (150, 50, 180),
    "orange": (245, 130, 20),
}
INKS: list[Colour] = [(0, 0, 0), (120, 0, 0), (0, 80, 0), (0, 0, 130), (90, 0, 90), (90, 60, 0)]
PAPERS: list[Colour] = [(255, 255, 255), (255, 248, 225), (230, 240, 255), (235, 250, 235), (250, 232, 240)]

# Seven rows of five pixels a glyph, one hexadecimal pair a row.
_ROWS = {
    "0": "0e11131519110e",
    "1": "040c040404040e",
    "2": "0e11010204081f",
    "3": "1f02040201110e",
    "4": "02060a121f0202",
    "5": "1f101e0101110e",
    "6": "0608101e11110e",
    "7": "1f010204080808",
    "8": "0e11110e11110e",
    "9": "0e11110f01020c",
    "A": "0e11111f111111",
    "B": "1e11111e11111e",
    "C": "0e11101010110e",
    "D": "1c12111111121c",
    "E": "1f10101e10101f",
    "F": "1f10101e101010",
    "G": "0e11101711110f",
    "H": "1111111f111111",
    "+": "0004041f040400",
    "-": "0000001f000000",
    "*": "00110a040a1100",
    "%": "18190204081303",
}


@cache
def glyph(character: str, scale: int) -> Any:
    """The mask (mode "L", 0 or 255) of one character, `scale` pixels a dot."""
    rows = bytes.fromhex(_ROWS[character])
    dots = bytes(255 * (row >> (GLYPH_WIDTH - 1 - x) & 1) for row in rows for x in range(GLYPH_WIDTH))
    mask = Image.frombytes("L", (GLYPH_WIDTH, GLYPH_HEIGHT), dots)
    size = (GLYPH_WIDTH * scale, GLYPH_HEIGHT * scale)
    return mask.resize(size, Image.Resampling.NEAREST)


@cache
def outline_font(size: int) -> Any:
    """Pillow's built-in outline font at `size` pixels, for words."""
    return ImageFont.load_default(size)


def text_width(text: str, scale: int) -> int:
    """Pixels that `put_text` takes, one dot between glyphs."""
    return (len(text) * (GLYPH_WIDTH + 1) - 1) * scale


def put_text(image: Any, xy: tuple[int, int], text: str, scale: int, ink: Colour) -> None:
    """Draw `text` with its top left corner at `xy`."""
    x, y = xy
    for character in text:
        if character != " ":
            image.paste(ink, (x, y), glyph(character, scale))
        x += (GLYPH_WIDTH + 1) * scale


def put_in_cell(image: Any, row: int, column: int, character: str, ink: Colour = BLACK) -> None:
    """Draw one scale-2 glyph in the middle of a 16-pixel cell."""
    left = column * CELL + (CELL - 2 * GLYPH_WIDTH) // 2
    image.paste(ink, (left, row * CELL + 1), glyph(character, 2))


def blank(size: int, paper: Colour = WHITE) -> tuple[Any, Any]:
    """A square RGB image and its pen."""
    image = Image.new("RGB", (size, size), paper)
    return image, ImageDraw.Draw(image)


def disturb(image: Any, angle: float, noise: int, seed: int, paper: Colour) -> Any:
    """Rotate by `angle` degrees and darken every channel by at most `noise`, the same for the same seed."""
    if angle:
        image = image.rotate(angle, Image.Resampling.BILINEAR, fillcolor=paper)
    if noise:
        grain = Image.frombytes("L", image.size, random.Random(seed).randbytes(image.width * image.height))
        grain = grain.point(lambda value: value * noise // 255)
        image = ImageChops.subtract(image, Image.merge("RGB", (grain, grain, grain)))
    return image


def png_bytes(image: Any) -> bytes:
    """The image as PNG: lossless, so the pixels are the drawing's own."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()
