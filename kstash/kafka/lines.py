"""What the Kafka client says of itself, as events of the log.

Where nobody has set the log up, as in a program that only reads, the lines go to Python's
`logging`, under the same name.
"""

from __future__ import annotations

import logging

import structlog

NOISE = frozenset({"CONFWARN", "FAIL", "GETPID", "METADATAUPDATE", "REQTMOUT"})
"""Facilities of lines that are no news, and are for `log_level="debug"`.

CONFWARN says at every start that the gapless guarantee is experimental, and that a setting for
producers was given to a consumer as well; GETPID is a retry that succeeds; FAIL and REQTMOUT are a
connection that broke and what was on it, of which each client has several: the member says once
that the broker is away, and refused credentials come as errors. METADATAUPDATE is a partition whose
leader is being elected.
"""

_FLAT = str.maketrans(".", "-")
"""Dots in a client's name would make a tree of loggers."""


class ClientLines:
    """Takes the lines of one client, for its setting `logger`; they come in its `poll`.

    Args:
        client: its `client.id`.
    """

    def __init__(self, client: str) -> None:
        name = f"kstash.client.{client.translate(_FLAT)}"
        self._log = structlog.get_logger(name)
        self._plain = logging.getLogger(name)

    def log(self, level: int, message: str, *arguments: object) -> None:
        """Take one line, as `logging.Logger.log`.

        The client's own way is to give facility, name and text as arguments.
        """
        facility, text = "", message % arguments if arguments else message
        if len(arguments) == 3:
            facility, text = str(arguments[0]), str(arguments[2])
        if facility in NOISE:
            level = logging.DEBUG
        if structlog.is_configured():
            self._log.log(level, "the Kafka client says", facility=facility, message=text)
        elif level > logging.DEBUG:
            self._plain.log(level, "%s %s", facility, text)
