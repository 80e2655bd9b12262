"""Unicode mathematics as the LaTeX that says the same: x², √2, ½, ≤, ∞."""

# ruff: noqa: RUF001  (symbols that look like letters are what this is about)

import re

_FRACTIONS = {
    "½": (1, 2), "⅓": (1, 3), "⅔": (2, 3), "¼": (1, 4), "¾": (3, 4), "⅕": (1, 5), "⅖": (2, 5), "⅗": (3, 5),
    "⅘": (4, 5), "⅙": (1, 6), "⅚": (5, 6), "⅛": (1, 8), "⅜": (3, 8), "⅝": (5, 8), "⅞": (7, 8),
}  # fmt: skip
_COMMANDS = {
    "×": "times", "÷": "div", "·": "cdot", "⋅": "cdot", "±": "pm", "≤": "le", "≥": "ge", "≠": "ne",
    "≈": "approx", "∞": "infty", "∪": "cup", "∩": "cap", "∈": "in", "∅": "emptyset", "°": "degree",
    "π": "pi", "θ": "theta", "α": "alpha", "β": "beta", "γ": "gamma", "λ": "lambda", "φ": "phi",
    "∖": "setminus", "⟨": "langle", "⟩": "rangle",
}  # fmt: skip
_TABLE = str.maketrans(
    {symbol: f"\\{name} " for symbol, name in _COMMANDS.items()}
    | {symbol: f"\\frac{{{top}}}{{{bottom}}}" for symbol, (top, bottom) in _FRACTIONS.items()}
    | {"−": "-", "–": "-", "∕": "/", "⁄": "/", "∶": ":", "，": ",", "（": "(", "）": ")"}
    | {"ℝ": "\\mathbb{R}", "ℤ": "\\mathbb{Z}", "ℚ": "\\mathbb{Q}", "ℕ": "\\mathbb{N}", "ℂ": "\\mathbb{C}"}
    | dict.fromkeys("\u00a0\u2009\u200a\u202f", " ")
    | dict.fromkeys("“”", '"')
    | dict.fromkeys("\u200b\ufeff", "")
)
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻ⁿ", "0123456789-n")
_LOWERED = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_RAISED_RUN = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻ⁿ]+")
_LOWERED_RUN = re.compile("[₀₁₂₃₄₅₆₇₈₉]+")
_ROOT = re.compile(r"√ ?(?:\(([^()]*)\)|\{([^{}]*)\}|([0-9]+(?:\.[0-9]+)?|[A-Za-z]))")


def latex_symbols(text: str) -> str:
    """`text` with Unicode symbols as LaTeX; what is not known stays."""
    if text.isascii():
        return text
    text = _RAISED_RUN.sub(lambda run: f"^{{{run.group().translate(_RAISED)}}}", text)
    text = _LOWERED_RUN.sub(lambda run: f"_{{{run.group().translate(_LOWERED)}}}", text)
    text = text.translate(_TABLE).replace("\\degree ", "^\\circ ")
    return _ROOT.sub(lambda root: f"\\sqrt{{{root[1] or root[2] or root[3]}}}", text)
