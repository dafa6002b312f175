"""Draws internals/protocol-states.md from the table `core.group.TRANSITIONS`.

States, events and targets are the table's; the effects are seen by driving `GroupCore` through it.

    python docs/make_protocol_states.py
"""

from __future__ import annotations

from pathlib import Path

from kstash.core.events import (
    Begin,
    CheckpointsVerified,
    ClaimAppended,
    GenerationAppended,
    Event,
    Fenced,
    LineageRead,
    Replayed,
    SealAppended,
    SkipsLocated,
    StartAppended,
    TailsScanned,
)
from kstash.core.group_state import GroupState
from kstash.core.group import TRANSITIONS, GroupCore
from kstash.core.ids import Incarnation, TaskId
from kstash.core.records import Claim, Generation, Start, TaskStart
from kstash.core.plan import TaskSpec

PAGE = Path(__file__).parent / "internals" / "protocol-states.md"

HEAD = """# States of a task group

This page is drawn by `python docs/make_protocol_states.py` from the transitions of
`kstash/core/group.py`; a test keeps it up to date. An arrow reads *event / effect*: the event that
says that the last step is durable, and what is asked for next. `Begin` leads from every state to
*reading the lineage*, and so does every failure: a group that was fenced, or whose producer failed,
starts over with a new CLAIM. [The protocol](protocol.md) says what the steps are for.

"""

CONFIG, CLAIM = (0, Generation(b"c", 1)), (1, Claim(b"n", "worker"))
TAKEOVER: list[Event] = [Begin(), LineageRead([CONFIG]), ClaimAppended(1), LineageRead([CLAIM])]
FIRST_START: list[Event] = [
    Begin(),
    LineageRead([]),
    GenerationAppended(),
    ClaimAppended(1),
    LineageRead([CONFIG, CLAIM]),
    Fenced(()),
    SealAppended(2),
    LineageRead([]),
    LineageRead([CONFIG]),
    CheckpointsVerified(frozenset()),
    TailsScanned({}),
    StartAppended(),
    Replayed(),
]

PARENT = (2, Start(Incarnation(1, 1), None, {0: TaskStart(0, 5, {})}, {}))
NEW_SKIP: list[Event] = [
    Begin(),
    LineageRead([CONFIG, CLAIM, PARENT]),
    ClaimAppended(3),
    LineageRead([(3, Claim(b"m", "worker"))]),
    Fenced(()),
    SealAppended(4),
    LineageRead([]),
    LineageRead([CONFIG]),
    CheckpointsVerified(frozenset()),
    TailsScanned({}),
    SkipsLocated(((5,),)),
]

Arrow = tuple[GroupState, str, str, GroupState]


def asked_for() -> dict[tuple[GroupState, type[Event], GroupState], str]:
    """The effects of each transition, by (from, event, to), as recoveries take them."""
    found = {}
    spec = TaskSpec(TaskId(0, 0), implicit=True, internal_outputs=((0, 0),))
    for events, skips in ((FIRST_START, ()), (TAKEOVER, ()), (NEW_SKIP, ((0, 0, 7),))):
        core = GroupCore(
            group=0,
            application=0,
            specs=[spec],
            external_inputs={},
            settings={},
            skips=frozenset(skips),
        )
        for event in events:
            before = core.state
            effects = ", ".join(type(effect).__name__ for effect in core.step(event))
            found[before, type(event), core.state] = effects
    return found


def arrows() -> list[Arrow]:
    """(from, event, effects, to) of every transition, in the order of a recovery."""
    found = asked_for()
    order = list(GroupState)
    drawn = [
        (state, event.__name__, found[state, event, target], target)
        for (state, event), transition in TRANSITIONS.items()
        for target in transition.targets
        if event is not Begin or state is GroupState.NEW
    ]
    return sorted(drawn, key=lambda arrow: (order.index(arrow[0]), order.index(arrow[3])))


def page() -> str:
    """The whole page."""
    drawing = ["```mermaid", "stateDiagram-v2"]
    drawing += [f"    {state.name}: {state.value}" for state in GroupState]
    drawing.append(f"    [*] --> {GroupState.NEW.name}")
    rows = ["| in state | event | asks for | then |", "|---|---|---|---|"]
    for state, event, effects, target in arrows():
        drawing.append(f"    {state.name} --> {target.name}: {event} / {effects}")
        rows.append(f"| {state.value} | `{event}` | `{effects}` | {target.value} |")
    rows.append("| *any* | `Begin` | `ReadLineage` | reading the lineage |")
    return HEAD + "\n".join([*drawing, "```", "", *rows, ""])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
