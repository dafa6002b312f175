"""Whether the group of an application has members that run something else.

Two programs under one id would share out the task groups between them, and each would read what the
other wrote as its own. What has run before is in the lineage topic; what runs now is in the group:
each member's client id names its program.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from kstash.errors import ApplicationIdTakenError
from kstash.kafka import client_settings as settings
from kstash.kafka import failures
from kstash.kafka.static_members import members_of
from kstash.settings.config import Config

ANSWER_S_MAX = 1.0
LOOK_S = 0.5
PLACE_GRACE_S = 2.0
"""What the broker may take beyond a session to see that it has ended."""

log = structlog.get_logger("kstash.kafka")


def refuse_strangers(
    config: Config,
    program: str,
    *,
    waits: bool,
    found: list[str] | None = None,
    beat: Callable[[], None] = lambda: None,
) -> None:
    """Make sure that all members of the application's group run this program.

    Args:
        config: the application's settings.
        program: short name of what it runs.
        waits: whether places of members that have stopped may still be there: they are waited for
            as long as a session lasts. So is the own place, where another program has it: the
            broker keeps the client id of who had it first, and whoever comes next would take this
            member for the other program.
        found: what `find_strangers` has just returned; None: it is asked here.
        beat: called while it waits, which may be for longer than the loop may stand still.

    Raises:
        ApplicationIdTakenError: others run another program, or under another guarantee.
    """
    deadline = time.monotonic() + config.session_timeout_ms / 1000 + PLACE_GRACE_S
    is_told = False
    strangers = find_strangers(config, program, has_place=not waits) if found is None else found
    while strangers:
        if not waits or time.monotonic() >= deadline:
            raise ApplicationIdTakenError(config.application_id, strangers)
        if not is_told:
            is_told = True
            log.info("waiting for members that run another program to be gone", members=strangers)
        beat()
        time.sleep(LOOK_S)
        strangers = find_strangers(config, program, has_place=not waits)


def find_strangers(config: Config, program: str, *, has_place: bool = False) -> list[str]:
    """Names of members that run something else; with `has_place` the own one is not looked at.

    Empty as well when the group gives no answer within a second.
    """
    try:
        members = members_of(
            settings.admin(config), group=config.application_id, timeout_s=ANSWER_S_MAX
        )
    except failures.CLIENT_ERRORS as error:
        # A cluster on which no group has ever been has nobody to ask.
        log.debug("the group gave no answer", error=failures.describe(error))
        return []
    own = settings.member_id(config, program)
    kind = settings.member_id(config, "")
    return sorted(
        f"{member.id} at {member.client_host}"
        for member in members
        if member.client_id != own
        and member.client_id.startswith(kind)
        and not (
            has_place and config.instance_id and member.id.startswith(f"{config.instance_id}-")
        )
    )
