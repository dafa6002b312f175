"""Text of topics, and of other programs, on a terminal: shown, and never obeyed."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""Text in one line, with an escape such as `\x1b` or `\n` for all that is not printable.

    An escape sequence can move a terminal's cursor, hide lines, set the title and make the terminal
    answer as if its user had typed.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def printable_lines(text: str) -> str:
    r"""As `printable`, of a text of several lines: line ends and tabs stay."""
    if text.isprintable():
        return text
    return "".join(c if c in "\n\t" or c.isprintable() else printable(c) for c in text)
