"""All names that an application has in Kafka and on disk: made here and nowhere else.

No two applications may have one in common. Topics, groups and transactional ids begin with the
application id and a hyphen, and an id may itself hold hyphens: `shop` and `shop-orders`. So the
part after the id holds none of the user's: `-` in the name of an edge becomes `_`, and the last
hyphen before `-repartition` ends the id. What else would meet is refused as an id (`refusal`).
"""

from __future__ import annotations

import re

REPARTITION = "-repartition"
"""How the names of internal topics end."""

_POSITIONS = "-positions"
_MEMBER_SUFFIX = len("-") + 36  # a UUID as text
_WORKER_FOLDER = re.compile(r"worker-\d+\Z")


def lineage_topic(application_id: str) -> str:
    """Topic that holds the lineage; its partitions are the task groups."""
    return f"{application_id}-lineage"


def reset_journal(application_id: str) -> str:
    """Topic that exists while a reset is under way, or was cut short."""
    return f"{application_id}-lineage-reset"


def checkpoints_topic(application_id: str) -> str:
    """Topic with the files of remote checkpoints, unless they go elsewhere."""
    return f"{application_id}-checkpoints"


def repartition_topic(application_id: str, edge: str) -> str:
    """Internal topic of a wide edge; edges that differ in `-` and `_` alone have the same."""
    return f"{application_id}-{edge.replace('-', '_')}{REPARTITION}"


def is_internal(topic: str) -> bool:
    """Whether a topic is called as the internal topics are."""
    return topic.endswith(REPARTITION)


def is_internal_of(application_id: str, topic: str) -> bool:
    """Whether a topic is called as an internal topic of this application, and of no other."""
    edge = topic.removeprefix(f"{application_id}-").removesuffix(REPARTITION)
    return topic == repartition_topic(application_id, edge) and edge != "" and "-" not in edge


def may_be_internal_of(topic: str) -> list[str]:
    """Ids of the applications that may have called an internal topic so, in any version.

    The first versions kept hyphens in the names of edges: there may be several.
    """
    parts = topic.removesuffix(REPARTITION).split("-")
    return ["-".join(parts[:count]) for count in range(1, len(parts))]


def positions_group(application_id: str) -> str:
    """Consumer group that holds the committed positions of the sinks."""
    return f"{application_id}{_POSITIONS}"


def transactional_id(application_id: str, group: int, slot: int) -> str:
    """Of one of the two sink producers of a task group."""
    return f"{application_id}-{group}" + ("-next" if slot else "")


def client_id(application_id: str, role: str) -> str:
    """Of one of a worker's clients; also the group id of those that are members of no group."""
    return f"{application_id}-{role}"


def instance_of(member_id: str) -> str:
    """Instance id of a static member: the broker calls it `<instance id>-<uuid>`."""
    return member_id[:-_MEMBER_SUFFIX]


def worker_folder(index: int) -> str:
    """Part of the state folder that belongs to one of several supervised workers."""
    return f"worker-{index}"


def refusal(application_id: str) -> str | None:
    """Why an id is not allowed although its letters are: another one's names would meet it."""
    if application_id.endswith(_POSITIONS):
        other = application_id.removesuffix(_POSITIONS)
        return f"it is the consumer group with the committed positions of application {other!r}"
    if _WORKER_FOLDER.match(application_id):
        return "folders of this name hold the state of other applications' supervised workers"
    return None
