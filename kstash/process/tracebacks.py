"""What users see of an error that ends `App.run`: its line, and their own frames.

Python shows every frame of an uncaught exception and of its causes. Frames of kstash are of no use
to whoever has to fix a program or a setting; with `log_level="debug"` they are logged.
"""

from __future__ import annotations

from types import TracebackType
from typing import TypeVar

import structlog

from kstash.errors import KstashError, OperatorError, ProcessorError, SerdeError

E = TypeVar("E", bound=BaseException)

log = structlog.get_logger("kstash")


def shortened(error: KstashError) -> KstashError:
    """The same error without frames of kstash, to be raised where the user called it.

    Its cause is kept only where that is an exception of the user's own code.
    """
    log.debug("all frames of the error", exc_info=error)
    error.__cause__ = None
    if isinstance(error, OperatorError | ProcessorError | SerdeError):
        error.__cause__ = with_user_frames(error.cause)
    return error.with_traceback(None)


def with_user_frames(error: E) -> E:
    """The same exception; its traceback begins with the first frame outside of kstash."""
    traceback = error.__traceback__
    while traceback is not None and _is_ours(traceback):
        traceback = traceback.tb_next
    return error.with_traceback(traceback)


def _is_ours(traceback: TracebackType) -> bool:
    module = str(traceback.tb_frame.f_globals.get("__name__"))
    return module.startswith("kstash.") and not module.startswith("kstash.apps.")
