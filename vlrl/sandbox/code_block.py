"""The program in a response, as LiveCodeBench's evaluator takes it."""

_FENCE = "```"


def extract_code(text: str) -> str:
    """What stands between the last two lines that hold a fence; "" where there are not two."""
    lines = text.split("\n")
    fences = [number for number, line in enumerate(lines) if _FENCE in line]
    return "" if len(fences) < 2 else "\n".join(lines[fences[-2] + 1 : fences[-1]])
