"""Checks of what tests give to a `TestDriver` beside keys and values."""

from __future__ import annotations

import math
from datetime import timedelta

from kstash.errors import ConfigError
from kstash.escape import short_repr


def check_sent(timestamp_ms: object, headers: object) -> None:
    """Refuse what no Kafka record has.

    Raises:
        ConfigError: it is no time, or they are no headers; None stands for none given.
    """
    if timestamp_ms is not None and type(timestamp_ms) is not int:
        raise ConfigError(
            "send takes timestamp_ms= as Unix milliseconds, a whole number, not "
            f"{short_repr(timestamp_ms)}"
        )
    if headers is None:
        return
    for header in headers if isinstance(headers, list | tuple) else (headers,):
        match header:
            case (str(), bytes() | None):
                pass
            case _:
                raise ConfigError(
                    "send takes headers= as a list of pairs of a text and bytes, such as "
                    f'[("trace", b"1")], not {short_repr(headers)}'
                )


def seconds_of(method: str, interval: object) -> float:
    """How many seconds a clock is to move by.

    Args:
        method: of the driver, for the error.
        interval: seconds as a number, or a timedelta.

    Raises:
        ConfigError: it is neither, or below 0.
    """
    seconds = interval.total_seconds() if isinstance(interval, timedelta) else interval
    if not isinstance(seconds, int | float) or not 0 <= seconds < math.inf:
        raise ConfigError(
            f"{method} takes seconds as a number, or a timedelta, 0 or more, "
            f"not {short_repr(interval)}"
        )
    return seconds
