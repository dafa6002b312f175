"""Whether the group of an application has foreign members: those that run something else.

Two programs under one id would divide the task groups among themselves, and each would read the
other's records as its own. The lineage topic shows which program ran before. The group shows which
programs run now: each member's client id names its program.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from kstash.core import names
from kstash.errors import ApplicationIdTakenError, ApplicationRunningError
from kstash.kafka import client_settings as settings
from kstash.kafka import failures
from kstash.kafka.groups import members_of
from kstash.settings.config import Config

ANSWER_S_MAX = 1.0
CHECK_INTERVAL_S = 0.5
LEAVE_PAUSE_S = 0.2
PLACE_GRACE_S = 2.0
"""How long the broker may take, beyond a session, to end it."""

STOP_GRACE_S = 5.0
"""How long a stopped worker may stay a member, beyond its session: the broker checks for silent
members only now and then."""

log = structlog.get_logger("kstash.kafka")


def refuse_foreign_members(
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
        program: short name of the program.
        waits: whether to wait, as long as a session lasts, for members that may have stopped. That
            includes this worker's own membership while it is another program's: the broker keeps
            the client id of its first holder, and the next worker that starts would take this one
            for the other program.
        found: what `find_foreign_members` has just returned; None: the group is asked here.
        beat: called during the wait, which may be longer than the loop may stand still.

    Raises:
        ApplicationIdTakenError: members run another program, or under another guarantee.
    """
    deadline = time.monotonic() + config.session_timeout_ms / 1000 + PLACE_GRACE_S
    is_reported = False
    foreign = find_foreign_members(config, program, has_place=not waits) if found is None else found
    while foreign:
        if not waits or time.monotonic() >= deadline:
            raise ApplicationIdTakenError(config.application_id, foreign)
        if not is_reported:
            is_reported = True
            log.info("waiting for members that run another program to be gone", members=foreign)
        beat()
        time.sleep(CHECK_INTERVAL_S)
        foreign = find_foreign_members(config, program, has_place=not waits)


def find_foreign_members(config: Config, program: str, *, has_place: bool = False) -> list[str]:
    """Names of members that run something else; with `has_place` this worker's own is left out.

    Empty as well when the group does not answer within a second.
    """
    try:
        members = members_of(
            settings.admin(config), group=config.application_id, timeout_s=ANSWER_S_MAX
        )
    except failures.CLIENT_ERRORS as error:
        # A cluster that never had a group has no coordinator that could answer.
        log.debug("the group gave no answer", error=failures.describe(error))
        return []
    own = settings.member_id(config, program)
    kind = settings.member_id(config, "")
    return sorted(
        f"{member.id} at {member.client_host}"
        for member in members
        if member.client_id != own
        and member.client_id.startswith(kind)
        and not (has_place and names.instance_of(member.id) == config.instance_id)
    )


def wait_until_stopped(
    config: Config,
    members_of_group: Callable[[str], list[str]],
    report: Callable[[list[str], float], None],
) -> None:
    """Wait until no worker of an application is a member of its group.

    Args:
        config: the application's settings.
        members_of_group: names of the members of a group, which it is given.
        report: called once when there is a wait: with the members, and the seconds at most.

    Raises:
        ApplicationRunningError: some are members still, after a session's length.
    """
    wait_s = config.session_timeout_ms / 1000 + STOP_GRACE_S
    deadline = time.monotonic() + wait_s
    is_reported = False
    while members := members_of_group(config.application_id):
        if time.monotonic() > deadline:
            raise ApplicationRunningError(config.application_id, members)
        if not is_reported:
            is_reported = True
            report(members, wait_s)
        time.sleep(LEAVE_PAUSE_S)
