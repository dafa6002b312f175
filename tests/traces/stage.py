"""Plays the commands of a trace: the lineage topic, one output partition, and a core each.

| command | does |
|---|---|
| `topic KIND ...` | appends a record to the lineage topic |
| `output inc=I seq=S count=N pos=P chunk=A-B` | appends a record to the task's output partition |
| `fence inc=I` | appends a FENCE to the output partition |
| `step`, `run` | one event of a recovery, or all that are left; `step again` begins anew |
| `task ...` | a task that is live |
| `batch`, `emit`, `flush`, `ack`, `acked`, `commit`, `hint`, `checkpoint` | what happens to it |
"""

from __future__ import annotations

from collections.abc import Callable

from kstash.core import effects as asked
from kstash.core import events
from kstash.core.determinants import Consumed
from kstash.core.group import GroupCore
from kstash.core.group_state import GroupState
from kstash.core.ids import Incarnation, TaskId
from kstash.core.kinds import OutputKind
from kstash.core.lineage_codec import Lineage, decode_lineage
from kstash.core.outputs import Outgoing
from kstash.core.plan import TaskSpec
from kstash.core.records import (
    Checkpoint,
    Claim,
    Generation,
    Hint,
    LineageRecord,
    Segment,
    Start,
    TaskStart,
)
from kstash.core.task import TaskCore
from kstash.core.wire import Fence, Identity
from kstash.errors import ProtocolError

APP, GENERATION, TASK, SINK = 1, 1, TaskId(0, 0), 1

Options = dict[str, str]


def inc(offset: str | int) -> Incarnation:
    """The incarnation of a CLAIM."""
    return Incarnation(GENERATION, int(offset))


def span(text: str) -> tuple[int, int]:
    """`3-7` as numbers."""
    start, _, end = text.partition("-")
    return int(start), int(end)


def runs(text: str) -> tuple[int, int, tuple[Consumed, ...]]:
    """The lineage of `3-7`: one run of input 0."""
    start, end = span(text)
    return start, end, (Consumed(start, 0, end - start, end),)


class Stage:
    """One task group with one task, its topics, and one task core."""

    def __init__(self) -> None:
        self.topic: list[LineageRecord] = []
        self.tail: list[tuple[Identity, Lineage | None] | Fence] = []
        self.group: GroupCore | None = None
        self.pending: asked.Effect | None = None
        self.core: TaskCore | None = None

    def perform(self, line: str) -> list[str]:
        """Carry out one command; returns the lines of its answer."""
        name, *words = line.split()
        plain = [word for word in words if "=" not in word]
        options = dict(word.split("=", 1) for word in words if "=" in word)
        try:
            return COMMANDS[name](self, plain, options)
        except ProtocolError as error:
            return [f"{type(error).__name__}: {error}"]

    # -- topics ----------------------------------------------------------------------------------

    def append(self, plain: list[str], o: Options) -> list[str]:
        """`topic KIND ...`."""
        i, number = inc(o.get("inc", "0")), int(o.get("number", "1"))
        made: dict[str, Callable[[], LineageRecord]] = {
            "config": lambda: Generation(b"c", GENERATION),
            "claim": lambda: Claim(b"n", "other"),
            "start": lambda: Start(
                i,
                inc(o["parent"]) if "parent" in o else None,
                {0: TaskStart(int(o.get("base", "0")), int(o.get("adopted", "0")), {0: 0})},
                {"topology": o.get("topology", "t")},
            ),
            "segment": lambda: Segment(i, TASK, number, *runs(o["of"])),
            "hint": lambda: Hint(i, TASK, number, {(0, 0): int(o["at"])}, int(o["reached"])),
            "checkpoint": lambda: Checkpoint(
                i, TASK, number, False, int(o["pos"]), o["label"], (), {0: 0}, {}, {}, {}
            ),
        }
        self.topic.append(made[plain[0]]())
        return [f"offset {len(self.topic) - 1}"]

    def output(self, _: list[str], o: Options) -> list[str]:
        """`output ...`."""
        identity = Identity(
            APP, TASK, inc(o["inc"]), int(o["pos"]), int(o.get("count", "1")), int(o["seq"])
        )
        self.tail.append((identity, Lineage(*runs(o["chunk"])) if "chunk" in o else None))
        return []

    def fence(self, _: list[str], o: Options) -> list[str]:
        """`fence inc=I`."""
        self.tail.append(Fence(APP, ((0, inc(o["inc"])),)))
        return []

    # -- recovery --------------------------------------------------------------------------------

    def step(self, plain: list[str], _: Options) -> list[str]:
        """`step` and `step again`."""
        if self.group is None or plain == ["again"]:
            if self.group is None:
                spec = TaskSpec(TASK, implicit=False, internal_outputs=((0, 0),))
                self.group = GroupCore(
                    group=0,
                    application=APP,
                    specs=[spec],
                    external_inputs={0: [0]},
                    settings={"topology": "t"},
                )
            event: events.Event = events.Begin()
        else:
            event = self.answer()
        (self.pending,) = self.group.step(event)
        return [f"{self.group.state.value}: {self.shown(self.pending)}"]

    def run(self, *_: object) -> list[str]:
        """`run`."""
        lines = self.step([], {})
        while self.group is not None and self.group.state is not GroupState.LIVE:
            lines += self.step([], {})
        return lines

    def answer(self) -> events.Event:
        """Carry out the effect that is pending, and return the event that reports it."""
        effect = self.pending
        if isinstance(effect, asked.ReadLineage):
            end = len(self.topic) if effect.through is None else effect.through + 1
            return events.LineageRead(list(enumerate(self.topic))[effect.start : end])
        if isinstance(effect, asked.AppendGeneration):
            self.topic.append(Generation(b"c", GENERATION))
            return events.GenerationAppended()
        if isinstance(effect, asked.AppendClaim):
            self.topic.append(Claim(b"n", "me"))
            return events.ClaimAppended(len(self.topic) - 1)
        if isinstance(effect, asked.FenceOutputs):
            self.tail.append(effect.marker)
            return events.Fenced(())
        if isinstance(effect, asked.AppendSeal):
            self.topic.append(effect.record)
            return events.SealAppended(len(self.topic) - 1)
        if isinstance(effect, asked.VerifyCheckpoints):
            found = effect.candidates[TASK]
            return events.CheckpointsVerified(frozenset((TASK, c.label) for c in found))
        if isinstance(effect, asked.ScanTails):
            for scan in effect.scans:
                for offset, item in enumerate(self.tail):
                    if isinstance(item, Fence):
                        scan.on_marker((0, 0), offset, item)
                    else:
                        scan.on_record((0, 0), offset, *item)
            return events.TailsScanned({0: {0: 0}} if effect.missing_inputs else {})
        if isinstance(effect, asked.AppendStart):
            self.topic.append(effect.record)
            return events.StartAppended()
        assert isinstance(effect, asked.Recover)
        return events.Replayed()

    def shown(self, effect: asked.Effect) -> str:
        """An effect in a few words."""
        name = type(effect).__name__
        if isinstance(effect, asked.ReadLineage):
            end = "end" if effect.through is None else effect.through
            return f"{name} {effect.start}..{end}"
        if isinstance(effect, asked.FenceOutputs):
            return f"{name} inc={effect.marker.incarnations[0][1].offset}"
        if isinstance(effect, asked.VerifyCheckpoints):
            return f"{name} {[c.label for c in effect.candidates[TASK]]}"
        if isinstance(effect, asked.ScanTails):
            starts = [scan.starts[0, 0] for scan in effect.scans]
            return f"{name} {[f'from {at}, older than {i.offset} void' for at, i in starts]}"
        if isinstance(effect, asked.AppendStart):
            start, task = effect.record, effect.record.tasks[0]
            parent = start.parent.offset if start.parent is not None else None
            return f"{name} parent={parent} base={task.base} adopted={task.adopted}"
        if isinstance(effect, asked.Recover):
            plan = effect.plans[TASK]
            return (
                f"{name} replay {plan.position}-{plan.adopted}, stable {plan.stable}, "
                f"suppress seq<={plan.last_valid[0, 0]}, pos<={plan.committed}"
            )
        return name

    # -- a live task -----------------------------------------------------------------------------

    def task(self, _: list[str], o: Options) -> list[str]:
        """`task cap=BYTES pos=P`; output 1 is a sink."""
        position = int(o.get("pos", "0"))
        self.core = TaskCore(
            TASK,
            inc(o.get("inc", "1")),
            implicit=False,
            position=position,
            adopted=position,
            stable=position,
            lineage=(),
            sequences={},
            kinds=[OutputKind.FRAMES, OutputKind.IMMEDIATE],
            header_bytes_max=int(o.get("cap", "4096")),
        )
        return []

    @property
    def live(self) -> TaskCore:
        """The task core; `task` comes first."""
        assert self.core is not None
        return self.core

    def batch(self, _: list[str], o: Options) -> list[str]:
        """`batch input=I count=N`."""
        at, count = self.live.position, int(o["count"])
        self.live.advance((Consumed(at, int(o.get("input", "0")), count, at + count),), at + count)
        return [f"position {self.live.position}"]

    def emit(self, plain: list[str], o: Options) -> list[str]:
        """`emit OUTPUT/PARTITION count=N`."""
        made = self.live.emit(out(plain[0]), int(o.get("count", "1")), None)
        return ["held"] if made is None else [sent(made)]

    def flush(self, *_: object) -> list[str]:
        """`flush`: take segments."""
        return [f"segment {s.number}: {s.start}-{s.end}" for s in self.live.take_segments()]

    def ack(self, plain: list[str], _: Options) -> list[str]:
        """`ack POSITION`: the lineage topic acknowledged everything before it."""
        freed = self.live.on_segment_acked(int(plain[0]))
        return [f"stable {self.live.stable}", *map(sent, freed)]

    def acked(self, plain: list[str], o: Options) -> list[str]:
        """`acked OUTPUT/PARTITION pos=P offset=O`: an output was acknowledged."""
        self.live.on_output_acked(out(plain[0]), int(o["pos"]), int(o["offset"]))
        return []

    def commit(self, plain: list[str], _: Options) -> list[str]:
        """`commit POSITION`: a transaction was committed."""
        self.live.on_committed(int(plain[0]))
        return []

    def hint(self, *_: object) -> list[str]:
        """`hint`."""
        made = self.live.take_hint()
        if made is None:
            return ["nothing new"]
        return [f"hint {o}/{p} at {at}" for (o, p), at in made.offsets.items()]

    def checkpoint(self, plain: list[str], _: Options) -> list[str]:
        """`checkpoint POSITION`: may it be published?"""
        return ["publish" if self.live.may_publish_checkpoint(int(plain[0])) else "wait"]


def out(text: str) -> tuple[int, int]:
    """`0/1` as an output partition."""
    output, _, partition = text.partition("/")
    return int(output), int(partition)


def sent(outgoing: Outgoing) -> str:
    """An output that is handed over."""
    output, partition = outgoing.partition
    last = outgoing.first_seq + outgoing.count - 1
    chunk = "no chunk"
    if outgoing.chunk is not None:
        start, end, _ = decode_lineage(outgoing.chunk)
        chunk = f"chunk {start}-{end}"
    return f"sent {output}/{partition} seq {outgoing.first_seq}..{last}, {chunk}"


COMMANDS: dict[str, Callable[[Stage, list[str], Options], list[str]]] = {
    "topic": Stage.append,
    "output": Stage.output,
    "fence": Stage.fence,
    "step": Stage.step,
    "run": Stage.run,
    "task": Stage.task,
    "batch": Stage.batch,
    "emit": Stage.emit,
    "flush": Stage.flush,
    "ack": Stage.ack,
    "acked": Stage.acked,
    "commit": Stage.commit,
    "hint": Stage.hint,
    "checkpoint": Stage.checkpoint,
}
