"""Words by the script they are written in, and the languages that a script is written for."""

from collections import Counter
from threading import Lock
from typing import Any

import regex

# The scripts of a language, and for scripts of several languages the ones it is told apart from.
LANGUAGE_SCRIPTS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("en", "fr", "de", "es", "it", "pt", "nl", "pl", "tr", "vi", "id", "sv"), ("Latin",)),
    **dict.fromkeys(("ru", "uk", "bg"), ("Cyrillic",)),
    **dict.fromkeys(("ar", "fa", "ur"), ("Arabic",)),
    **dict.fromkeys(("hi", "mr", "ne"), ("Devanagari",)),
    "zh": ("Han",),
    "ja": ("Han", "Kana"),
    "ko": ("Hangul",),
    "el": ("Greek",),
    "he": ("Hebrew",),
    "th": ("Thai",),
    "bn": ("Bengali",),
    "ta": ("Tamil",),
    "te": ("Telugu",),
    "ka": ("Georgian",),
    "hy": ("Armenian",),
}

# Scripts without spaces between words are counted by the letter, others by the word.
_BY_LETTER = {"Han": r"\p{Han}", "Kana": r"[\p{Hiragana}\p{Katakana}]", "Thai": r"\p{Thai}"}
_BY_WORD = sorted({s for scripts in LANGUAGE_SCRIPTS.values() for s in scripts} - set(_BY_LETTER))
_WORD = regex.compile(
    "|".join(
        (
            *(rf"(?P<{name}>{letter}\p{{M}}*+)" for name, letter in _BY_LETTER.items()),
            *(rf"(?P<{name}>\p{{{name}}}[\p{{{name}}}\p{{M}}'\u2019]*+)" for name in _BY_WORD),
            r"(?P<Other>\p{L}[\p{L}\p{M}]*+)",
        )
    )
)
# Fewer words than these say little of a language to a model that counts letter sequences.
_MIN_WORDS, _WINDOW = 8, 20
_MAX_WORD = 30  # characters: beyond, it is no word, and py3langid's NFC takes the square of its marks


def words_of(text: str) -> list[tuple[str, str]]:
    """The words of a text (the letters, of Han, kana and Thai), each after its script.

    Symbols are no words: single Latin and Greek letters, and up to four capitals (ABC, GDP).
    """
    found = ((match.lastgroup or "Other", match.group()[:_MAX_WORD]) for match in _WORD.finditer(text))
    return [(script, word) for script, word in found if not _is_symbol(script, word)]


def _is_symbol(script: str, word: str) -> bool:
    return script in ("Latin", "Greek") and (len(word) == 1 or (len(word) <= 4 and word.isupper()))


def language_share(words: list[tuple[str, str]], language: str) -> float:
    """The share in [0, 1] of the words that are of `language`, a key of LANGUAGE_SCRIPTS.

    A word counts where it is in the language's script, and, in a script of several languages, where the 20
    words that it stands among are not another of them's, as py3langid has it. Han is Japanese only in a text
    of which kana is a tenth.
    """
    scripts = LANGUAGE_SCRIPTS[language]
    counts = Counter(script for script, _ in words)
    if language == "ja" and counts["Kana"] < 0.1 * (counts["Kana"] + counts["Han"]):
        scripts = ("Kana",)
    own = [word for script, word in words if script in scripts]
    if not own:
        return 0.0
    rivals = [other for other, used in LANGUAGE_SCRIPTS.items() if used == LANGUAGE_SCRIPTS[language]]
    if len(rivals) > 1:
        return sum(_not_foreign(window, language, rivals) for window in _windows(own)) / len(words)
    return len(own) / len(words)


def guess_language(words: list[tuple[str, str]]) -> str | None:
    """The language of a text; None where it has too few words or too many languages to say."""
    if not words:
        return None
    script, count = Counter(script for script, _ in words).most_common(1)[0]
    if any(name == "Kana" for name, _ in words) and script in ("Han", "Kana"):
        script, count = "Kana", sum(name in ("Han", "Kana") for name, _ in words)
    candidates = [language for language, scripts in LANGUAGE_SCRIPTS.items() if scripts[-1] == script]
    if not candidates or count < 0.5 * len(words):
        return None
    if len(candidates) == 1:
        return candidates[0]
    chances = _chances([word for name, word in words if name == script], candidates)
    best = max(candidates, key=lambda language: chances[language])
    return best if chances[best] >= 0.9 else None


def _windows(words: list[str]) -> list[list[str]]:
    """Stretches of 20 words; a rest that says little by itself goes to the one before."""
    windows = [words[i : i + _WINDOW] for i in range(0, len(words), _WINDOW)]
    if len(windows) > 1 and len(windows[-1]) < _MIN_WORDS:
        windows[-2:] = [windows[-2] + windows[-1]]
    return windows


def _not_foreign(window: list[str], language: str, rivals: list[str]) -> int:
    """How many words of a window count: all, or none where it is more likely another language's."""
    if len(window) < _MIN_WORDS:
        return len(window)
    return len(window) if _chances(window, rivals)[language] >= 0.1 else 0


def _chances(words: list[str], candidates: list[str]) -> dict[str, float]:
    """The probability of each of `candidates`, given that it is one of them."""
    ranked = {language: float(chance) for language, chance in _identifier().rank(" ".join(words))}
    total = sum(ranked[language] for language in candidates) or 1.0
    return {language: ranked[language] / total for language in candidates}


_lock = Lock()
_loaded: Any = None


def _identifier() -> Any:
    """py3langid's model, which comes with the package; 0.3 s and 120 MB when first asked for."""
    global _loaded
    with _lock:
        if _loaded is None:
            from py3langid.langid import MODEL_FILE, LanguageIdentifier

            identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
            identifier.set_languages(sorted(LANGUAGE_SCRIPTS))
            _loaded = identifier
        return _loaded
