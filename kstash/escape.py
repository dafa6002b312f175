"""Text of topics, and of other programs, on a terminal: shown, and never obeyed."""

from __future__ import annotations

ERROR_CHARS = 2_000
REPR_CHARS = 80


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


def error_text(error: BaseException) -> str:
    """Kind and text of somebody else's exception, cut at 2,000 characters.

    Its text is that of a user's code, which may fail in its turn, or hold a record of megabytes.
    """
    try:
        text = str(error)
    except Exception as again:
        text = f"(its text cannot be had: {type(again).__name__})"
    # On a terminal it is shown, and not obeyed.
    return f"{type(error).__name__}: {printable_lines(_cut(text, ERROR_CHARS))}"


def short_repr(value: object) -> str:
    """The `repr` of a key or value, cut at 80 characters."""
    try:
        return _cut(repr(value), REPR_CHARS)
    except Exception:
        # As of an integer with more digits than Python writes.
        return f"a value of type {type(value).__name__}"


def _cut(text: str, chars_max: int) -> str:
    # What has no bytes in UTF-8 would fail in a log.
    if len(text) > chars_max:
        text = f"{text[:chars_max]}..."
    return text.encode(errors="backslashreplace").decode()
