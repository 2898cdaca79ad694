"""Plain words that terminal, page and datasheet share."""

from collections.abc import Iterable

__all__ = ["join", "left_out_words", "p_words", "plural", "printable", "typed", "typeset"]

# What a terminal obeys in place of showing it: but for line breaks and tabs, and signs that turn the writing round.
_OBEYED = [*range(32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x2028, 0x2029]
_SHOWN = {code: ascii(chr(code))[1:-1] for code in _OBEYED if chr(code) not in "\n\t"}


def printable(text: str) -> str:
    """Text with names of files and datasets in it, of which a terminal shows all signs and obeys none."""
    return text.translate(_SHOWN)


def typeset(number: str) -> str:
    """A formatted number with the sign that is a minus, and thin spaces between thousands."""
    return number.replace("-", "\N{MINUS SIGN}").replace(",", "\N{THIN SPACE}")


def typed(text: str) -> str:
    """Text with such numbers as a keyboard has them, to be copied into other programs."""
    return text.replace("\N{MINUS SIGN}", "-").replace("\N{THIN SPACE}", "")


def p_words(p: float) -> str:
    """`= 0.03`, or `< 0.001`: no p-value is zero, and no digit of a smaller one is worth reading."""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}" if p < 0.1 else f"= {p:.2f}"


def plural(count: int | str, noun: str) -> str:
    """`1 seed`, `2 seeds`; a count as text is one that was rounded."""
    return f"{count} {noun}" if str(count) == "1" else f"{count} {noun}s"


def left_out_words(count: int) -> str:
    """What became of segmentations in which there is nothing to compare."""
    return f"{plural(count, 'segmentation')} left out, where truth and prediction are both empty"


def join(words: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    items = list(words)
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else ""
