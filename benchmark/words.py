"""Plain words that terminal, page and datasheet share."""

from collections.abc import Iterable

__all__ = ["join", "p_words", "plural"]


def p_words(p: float) -> str:
    """`= 0.03`, or `< 0.001`: no p-value is zero, and no digit of a smaller one is worth reading."""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}" if p < 0.1 else f"= {p:.2f}"


def plural(count: int | str, noun: str) -> str:
    """`1 seed`, `2 seeds`; a count as text is one that was rounded."""
    return f"{count} {noun}" if str(count) == "1" else f"{count} {noun}s"


def join(words: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    items = list(words)
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else ""
