"""Units of measurement: what they measure and how large they are, exactly."""

import re
from dataclasses import dataclass
from fractions import Fraction


@dataclass(slots=True, frozen=True)
class Unit:
    """`measures` are the base units and their powers, sorted; `size` is how many of those it is.

    No unit at all is `Unit((), 1)`.
    """

    measures: tuple[tuple[str, int], ...]
    size: Fraction


NO_UNIT = Unit((), Fraction(1))

# Base unit, size in it, spellings. A currency is never converted into another, but pounds may be both.
_TABLE = """
m 1 m meter metre
m 1/1000 mm millimeter millimetre
m 1/100 cm centimeter centimetre
m 1/10 dm decimeter decimetre
m 1000 km kilometer kilometre
m 127/5000 inch in inches
m 381/1250 ft foot feet
m 1143/1250 yd yard
m 201168/125 mi mile
s 1 s sec second
s 60 min minute
s 3600 h hr hour
s 86400 day
s 604800 week
s 1/1000 millisecond msec
s 1/1000000 microsecond
s 1209600 fortnight
m 1/1000000 micrometer micrometre micron
m 1/1000000000 nanometer nanometre
month 1 month
month 12 year yr
month 120 decade
month 1200 century centuries
month 12000 millennium millennia
g 1 g gram gm
g 1/1000 mg milligram
g 1000 kg kilogram
g 1000000 tonne
g 1/1000000 microgram mcg
ton 1 ton
pound 1 lb pound gbp
pound 1/16 oz ounce
l 1 l liter litre
l 1/1000 ml milliliter millilitre
gallon 1 gallon gal
gallon 1/4 quart
gallon 1/8 pint
gallon 1/16 cup
gallon 1/256 tablespoon tbsp
gallon 1/768 teaspoon tsp
degree 1 degree deg
radian 1 radian rad
dollar 1 dollar usd buck
dollar 1/100 cent
nickel 1 nickel
dime 1 dime
euro 1 euro eur
yen 1 yen
rupee 1 rupee
pence 1 pence penny
newton 1 newton n
newton 1000 kilonewton
joule 1 joule j
joule 1000 kilojoule
calorie 1 calorie cal
calorie 1000 kilocalorie kcal
watt 1 watt w
watt 1000 kilowatt
watt 1000000 megawatt
volt 1 volt v
volt 1000 kilovolt
volt 1/1000 millivolt
hertz 1 hertz hz
hertz 1000 kilohertz khz
hertz 1000000 megahertz mhz
hertz 1000000000 gigahertz ghz
pascal 1 pascal
pascal 1000 kilopascal kpa
atmosphere 1 atmosphere atm
ampere 1 ampere amp
ampere 1/1000 milliampere milliamp
ohm 1 ohm
mole 1 mole mol
mole 1/1000 millimole mmol
bit 1 bit
bit 8 byte
kilobyte 1 kilobyte
megabyte 1 megabyte
gigabyte 1 gigabyte
terabyte 1 terabyte
acre 1 acre
hectare 1 hectare
"""
_BASES: dict[str, tuple[str, Fraction]] = {}
for _line in _TABLE.split("\n")[1:-1]:
    _base, _size, *_names = _line.split(" ")
    for _name in _names:
        # Symbols have no plural, but for some that are written with one all the same.
        for _spelling in (_name, _name + "s") if len(_name) > 2 or _name in ("hr", "yr", "lb") else (_name,):
            _BASES[_spelling] = (_base, Fraction(_size))

_ALIASES = {"mph": "mile/hour", "kph": "km/hour", "kmph": "km/hour", "kmh": "km/hour", "kilos": "kg"}
_SILENT = frozenset(("unit", "units"))
_POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
_INVERSE = re.compile(r" ([a-z]+)\^\{?-([1-4])\}?$")
_FACTOR = re.compile(r"(?:(square|sq|cubic|cu)\.? )?([a-z]+)\.?(?: ?(squared|cubed)|\^\{?(-?[1-4])\}?)?")


def read_unit(words: str) -> Unit | None:
    """The unit that lower-case words name: "cm^2", "km per hour", "square feet"; None where they do not."""
    words = _ALIASES.get(words, words)
    words = _INVERSE.sub(r"/\1^\2", words).removesuffix("^1")
    over = re.split(r" ?/ ?| per ", words)
    measures: dict[str, int] = {}
    size = Fraction(1)
    for place, factor in enumerate(over):
        match = _FACTOR.fullmatch(factor)
        if match is None:
            return None
        before, name, after, exponent = match.groups()
        if name in _SILENT and len(over) == 1:
            return NO_UNIT
        if name not in _BASES:
            return None
        power = int(exponent or {"squared": 2, "cubed": 3}.get(after, _POWERS.get(before, 1)))
        power = -power if place else power
        base, each = _BASES[name]
        measures[base] = measures.get(base, 0) + power
        size *= each**power
    return Unit(tuple(sorted(item for item in measures.items() if item[1])), size)
