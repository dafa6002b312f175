"""What stages must not have together: names, topics that are read and written, two deliveries.

Each check raises a `TopologyError` that names the line of the user's code.
"""

from __future__ import annotations

from collections.abc import Iterable

from kstash.errors import TopologyError
from kstash.topology.model import Stage


def check_stage_names(stages: Iterable[Stage]) -> None:
    """Refuse stages of one name: their folders of state would be one."""
    names: set[str] = set()
    for stage in stages:
        if stage.name in names:
            raise TopologyError(
                f"two stages would be named {stage.name!r}: rename the stateful operator",
                stage.entries[0].location,
            )
        names.add(stage.name)


def check_loops_through_topics(stages: Iterable[Stage]) -> None:
    """Refuse topics that are both read and written."""
    read = {entry.topic for stage in stages for entry in stage.inputs}
    for stage in stages:
        for node, output in zip(stage.exits, stage.outputs, strict=True):
            if not output.internal and output.topic in read:
                raise TopologyError(
                    f"topic {output.topic!r} is both read and written by the application: "
                    "go on with the stream before to(), or put repartition() there",
                    node.location,
                )


def check_deliveries(stages: Iterable[Stage]) -> None:
    """Refuse topics that are written with both deliveries."""
    first: dict[str, str] = {}
    for stage in stages:
        for node, output in zip(stage.exits, stage.outputs, strict=True):
            if not output.internal and output.delivery != first.setdefault(
                output.topic, output.delivery
            ):
                raise TopologyError(
                    f"topic {output.topic!r} is written with both deliveries, so that no "
                    "reader could rely on its headers: choose one of them",
                    node.location,
                )
