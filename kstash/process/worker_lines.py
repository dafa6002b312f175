"""Lines of supervised workers, as their supervisor writes them to its own standard error."""

from __future__ import annotations

import json


def line_of_console(line: str, worker: str, _application_id: str) -> str:
    """The line with the worker's name in front of it."""
    return f"{worker} | {line}"


def line_of_json(line: str, worker: str, application_id: str) -> str:
    """The line itself when it is JSON; otherwise it was not logged, and is made JSON here."""
    try:
        if isinstance(json.loads(line), dict):
            return line
    except ValueError:
        pass
    found = {
        "application": application_id,
        "worker": worker,
        "event": line,
        "logger": "stderr",
    }
    return json.dumps(found)
