"""Where a text holds a phrase but for a few edits (insertions, deletions, substitutions), exactly."""

from rapidfuzz import fuzz


def first_end(phrase: str, text: str, max_edits: int) -> int | None:
    """The smallest index at which a stretch of `text` within `max_edits` of `phrase` ends; None where there
    is no such stretch. `max_edits` must be less than the phrase is long."""
    if max_edits == 0:
        found = text.find(phrase)
        return None if found < 0 else found + len(phrase)
    return _scan(phrase, text, max_edits) if _may_hold(phrase, text, max_edits) else None


def last_start(phrase: str, text: str, max_edits: int) -> int | None:
    """The largest index at which a stretch of `text` within `max_edits` of `phrase` begins."""
    end = first_end(phrase[::-1], text[::-1], max_edits)
    return None if end is None else len(text) - end


def _may_hold(phrase: str, text: str, max_edits: int) -> bool:
    """False only where no stretch is near enough; much faster than the scan.

    With k edits a stretch as long as the phrase (m) is at most 2k insertions and deletions away, and that
    is a ratio of 1 - k/m.
    """
    if len(text) < len(phrase):
        return True
    floor = 100.0 * (1.0 - max_edits / len(phrase)) - 1e-6
    return fuzz.partial_ratio(phrase, text, score_cutoff=floor) >= floor


def _scan(phrase: str, text: str, max_edits: int) -> int | None:
    """Myers, "A fast bit-vector algorithm for approximate string matching" (J. ACM 46, 1999):
    one column of the edit-distance table is two integers of a bit a row, kept as differences of +1 and -1.
    """
    places: dict[str, int] = {}
    for row, character in enumerate(phrase):
        places[character] = places.get(character, 0) | 1 << row
    everywhere, last = (1 << len(phrase)) - 1, 1 << (len(phrase) - 1)
    up, down, distance = everywhere, 0, len(phrase)
    for column, character in enumerate(text):
        equal = places.get(character, 0)
        vertical = equal | down
        diagonal = (((equal & up) + up) ^ up) | equal
        right_up, right_down = down | ~(diagonal | up), up & diagonal
        if right_up & last:
            distance += 1
        elif right_down & last:
            distance -= 1
        if distance <= max_edits:
            return column + 1
        right_up, right_down = right_up << 1, right_down << 1
        up = (right_down | ~(vertical | right_up)) & everywhere
        down = right_up & vertical & everywhere
    return None
