"""Values between two programs: plain data in JSON, no code, nothing that runs when it is read.

A value is a table of cells that refer to each other by number, so that deep, shared and cyclic structures
(a linked list of 10,000 nodes) pass without recursion. Objects pass as the name of their class and their
attributes; the reader uses its own class of that name.
"""

import json
from collections import deque
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

_SCALARS = (type(None), bool, float, str)
_MAX_PLAIN_INT = 1 << 64


def dumps(value: object) -> str:
    """The JSON form of a value.

    Raises:
        TypeError: some part of it is no data, such as a function.
    """
    queue: list[Any] = [value]
    numbers = {id(value): 0}

    def refer(part: Any) -> Any:
        if isinstance(part, _SCALARS) and type(part) in _SCALARS:
            return part
        if type(part) is int and -_MAX_PLAIN_INT < part < _MAX_PLAIN_INT:
            return part
        if id(part) not in numbers:
            numbers[id(part)] = len(queue)
            queue.append(part)
        return [numbers[id(part)]]

    cells: list[list[Any]] = []
    while len(cells) < len(queue):  # `queue` keeps every part alive, so an id stays its own
        cells.append(_cell(queue[len(cells)], refer))
    return json.dumps(cells)


def _cell(value: Any, refer: Any) -> list[Any]:
    kind = type(value)
    if isinstance(value, _SCALARS):
        return ["scalar", value]
    if isinstance(value, int):
        return ["int", hex(value)]
    if isinstance(value, (Fraction, Decimal)):
        return [kind.__name__, str(value)]
    if isinstance(value, complex):
        return ["complex", value.real, value.imag]
    if isinstance(value, (bytes, bytearray)):
        return ["bytes", value.hex()]
    if isinstance(value, Mapping):
        return ["dict", *([refer(k), refer(v)] for k, v in value.items())]
    if isinstance(value, (tuple, set, frozenset)):
        name = next(n for n in ("tuple", "set", "frozenset") if isinstance(value, _BUILTIN[n]))
        return [name, *map(refer, value)]
    if isinstance(value, (list, deque, range)) or hasattr(value, "__next__"):
        return ["list", *map(refer, value)]
    if hasattr(value, "__dict__") and not callable(value):
        return ["object", kind.__name__, *([k, refer(v)] for k, v in vars(value).items())]
    if hasattr(value, "__iter__"):  # views, arrays
        return ["list", *map(refer, value)]
    raise TypeError(f"a {kind.__name__} is no plain data")


_BUILTIN: dict[str, Any] = {"tuple": tuple, "set": set, "frozenset": frozenset}


def loads(text: str, classes: Mapping[str, Any]) -> Any:
    """The value of a JSON form. Objects become those of the class of their name in `classes`.

    Raises:
        ValueError: it is no such form, or names an unknown class.
    """
    cells = json.loads(text)
    try:
        return _Reader(cells, classes).read()
    except (TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise ValueError(f"a malformed value ({type(error).__name__}: {error})") from None


class _Reader:
    """Containers are made empty first and filled last, so that they may hold each other."""

    def __init__(self, cells: list[Any], classes: Mapping[str, Any]) -> None:
        self._cells, self._classes = cells, classes
        self._made: dict[int, Any] = {}

    def read(self) -> Any:
        for number, cell in enumerate(self._cells):
            empty = self._empty(cell)
            if empty is not None:
                self._made[number] = empty
        for number in list(self._made):
            self._fill(self._made[number], self._cells[number])
        return self._at(0)

    def _empty(self, cell: list[Any]) -> Any:
        name = cell[0]
        if name == "object":
            owner = self._classes.get(cell[1])
            if not isinstance(owner, type):
                raise ValueError(f"an object of the unknown class {cell[1]!r}")
            return object.__new__(owner)
        makers: dict[str, Any] = {"list": list, "dict": dict, "set": set}
        return makers[name]() if name in makers else None

    def _fill(self, made: Any, cell: list[Any]) -> None:
        if cell[0] == "list":
            made.extend(map(self._part, cell[1:]))
        elif cell[0] == "set":
            made.update(map(self._part, cell[1:]))
        elif cell[0] == "dict":
            made.update((self._part(k), self._part(v)) for k, v in cell[1:])
        else:
            made.__dict__.update((str(k), self._part(v)) for k, v in cell[2:])

    def _part(self, part: Any) -> Any:
        return self._at(part[0]) if isinstance(part, list) else part

    def _at(self, number: int) -> Any:
        if number not in self._made:
            self._made[number] = self._immutable(self._cells[number])
        return self._made[number]

    def _immutable(self, cell: list[Any]) -> Any:
        name, *parts = cell
        if name in ("tuple", "frozenset"):
            return _BUILTIN[name](map(self._part, parts))
        readers: dict[str, Any] = {
            "scalar": lambda value: value,
            "int": lambda digits: int(digits, 16),
            "bytes": bytes.fromhex,
            "Fraction": Fraction,
            "Decimal": Decimal,
            "complex": complex,
        }
        return readers[name](*parts)
