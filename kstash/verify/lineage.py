"""The lineage topic: whether its records are consistent, and its checkpoints complete."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from typing import Any

from kstash.verify import formats
from kstash.verify.bodies import Program
from kstash.verify.checks import RETAINED, Fetch, Message, Report
from kstash.verify.formats import Record, UnreadableError


class LineageCheck:
    """One partition of the lineage topic.

    Attributes:
        programs: the programs of its STARTs, oldest first.
    """

    def __init__(self, report: Report) -> None:
        self.programs: list[Program] = []
        self._report = report
        self._generation: int | None = None
        self._is_headless = False
        self._claims: list[int] = []
        self._starts: dict[tuple[int, int], tuple[Any, Message]] = {}
        self._numbers: dict[tuple[tuple[int, int], tuple[int, int]], int] = {}
        self._remote: dict[tuple[int, int], list[tuple[Record, Message]]] = defaultdict(list)
        self._skips: dict[tuple[int, int], set[tuple[int, ...]]] = {}
        self._program_of: dict[tuple[int, int], str] = {}
        self._checkpoints: dict[tuple[int, int], list[tuple[Record, Message]]] = defaultdict(list)
        self._runs: dict[tuple[int, int], list[formats.ReadRun]] = defaultdict(list)

    def take(self, message: Message) -> None:
        """Check the next record."""
        self._report.records[message.topic(), message.partition()] += 1
        value = message.value()
        if value is None:
            return
        try:
            record = formats.lineage_record(message.key(), value)
        except UnreadableError as error:
            self._report.find("unreadable", message, str(error))
            return
        self._take(record, message)

    def _take(self, record: Record, message: Message) -> None:
        if record.kind == "config":
            if self._generation is None:
                self._generation = record.body["generation"]
            return
        if self._generation is None and not self._is_headless:
            self._report.find("missing", message, f"{record.kind} before any CONFIG")
            self._is_headless = True
        if record.kind == "claim":
            self._claims.append(message.offset())
            return
        if not self._is_of_this_topic(record, message):
            return
        self._check_claim(record, message)
        if record.kind == "start":
            self._starts[record.incarnation] = record.body["parent"], message
            program = record.body["settings"].get("program")
            if program is not None:
                self._program_of[record.incarnation] = program
                try:
                    self.programs.append(formats.program(program))
                except UnreadableError as error:
                    self._report.find("unreadable", message, str(error))
            self._check_skips(record, message)
        elif record.kind == "segment" and record.task is not None:
            self._check_number(record, message)
            self._runs[record.task] += formats.check_chunk(record.body)
        elif record.kind == "checkpoint" and record.task is not None:
            if any(claim > record.incarnation[1] for claim in self._claims):
                return  # void
            self._checkpoints[record.task].append((record, message))
            if record.body["remote"]:
                self._remote[record.task].append((record, message))

    def _check_skips(self, record: Record, message: Message) -> None:
        """An offset that a START skips for the first time must not have been processed before."""
        body = record.body
        rows = {tuple(row) for row in (*body["skips"], *body.get("gaps", ()))}
        self._skips[record.incarnation] = rows
        parent = tuple(body["parent"]) if body["parent"] is not None else None
        if parent is not None and parent not in self._skips:
            return  # its lineage was given up, and with it what it skipped
        tasks = {stage: rest for stage, *rest in body["tasks"]}
        for row in sorted(rows - (self._skips[parent] if parent is not None else set())):
            stage, index, offset = row[:3]
            if stage in tasks and offset < self._taken(message.partition(), stage, index, tasks):
                detail = (
                    f"START {record.incarnation[0]}:{record.incarnation[1]} passes over offset "
                    f"{offset} of input {index} of stage {stage}, which was processed before"
                )
                self._report.find("order", message, detail)

    def _taken(self, group: int, stage: int, index: int, tasks: dict[int, list[Any]]) -> int:
        """The offset up to which at least a task had read an input, in a START's history."""
        base, adopted, first = tasks[stage]
        task = stage, group
        offsets = dict(first)
        for found, _ in self._checkpoints[task]:
            if found.body["position"] == base:
                offsets |= dict(found.body["inputs"])
        runs = (r for r in self._runs[task] if r.input == index and base < r.position <= adopted)
        taken = max((run.offset for run in runs), default=0)
        inputs = [s["inputs"] for p in self.programs for s in p["stages"] if s["number"] == stage]
        events = adopted - base if inputs and len(inputs[-1]) == 1 else 0
        return max(taken, int(offsets.get(index, 0)) + int(events))

    def _check_order(self) -> None:
        """A task's sequences never fall with its position, and are equal at equal positions."""
        for task, records in self._checkpoints.items():
            # Another program's outputs have other numbers.
            newest: dict[tuple[str | None, int, int], tuple[int, int]] = {}
            for record, message in sorted(records, key=lambda r: r[0].body["position"]):
                position = record.body["position"]
                for output, partition, sequence in record.body["sequences"]:
                    key = self._program_of.get(record.incarnation), output, partition
                    before = newest.get(key, (0, 0))
                    is_other = sequence != before[1] if position == before[0] else False
                    if sequence < before[1] or is_other:
                        detail = (
                            f"task {task[0]}_{task[1]} has sequence {sequence} of output {output}, "
                            f"partition {partition} at position {position}, but had {before[1]} at "
                            f"{before[0]}"
                        )
                        self._report.find("order", message, detail)
                    newest[key] = position, sequence

    def _is_of_this_topic(self, record: Record, message: Message) -> bool:
        generation, _ = record.incarnation
        if self._generation is None or generation == self._generation:
            return True
        if generation < self._generation:
            # A zombie from before the topic was made anew wrote it: every reader skips it.
            self._report.dropped[message.topic(), message.partition()] += 1
        else:
            detail = f"{record.kind} of generation {generation}, the topic's is {self._generation}"
            self._report.find("void", message, detail)
        return False

    def _check_claim(self, record: Record, message: Message) -> None:
        generation, claim = record.incarnation
        if claim not in self._claims and self._claims and claim > self._claims[0]:
            detail = f"{record.kind} of incarnation {generation}:{claim}, whose CLAIM is not there"
            self._report.find("missing", message, detail)

    def _check_number(self, record: Record, message: Message) -> None:
        # Trimming deletes the oldest segments; the rest of an incarnation must have no gap.
        assert record.task is not None
        place = record.incarnation, record.task
        before = self._numbers.get(place)
        if before is not None and record.number > before + 1:
            stage, partition = record.task
            detail = f"segment {record.number} of task {stage}_{partition} comes after {before}"
            self._report.find("gap", message, detail)
        self._numbers[place] = max(record.number, before or 0)

    def finish(self, fetch: Fetch | None) -> None:
        """Check what needs the whole partition: the chain of STARTs, the newest checkpoints.

        Args:
            fetch: content of a stored file by its URI and size; None: there is no store.
        """
        oldest = min(self._starts, default=(0, 0))
        for incarnation, (parent, message) in self._starts.items():
            if parent is not None and tuple(parent) not in self._starts and tuple(parent) > oldest:
                detail = f"START {incarnation[0]}:{incarnation[1]} follows one that is not there"
                self._report.find("missing", message, detail)
        self._check_order()
        if fetch is None:
            return
        for records in self._remote.values():
            for record, message in records[-RETAINED:]:
                self._check_files(record, message, fetch)

    def _check_files(self, record: Record, message: Message, fetch: Fetch) -> None:
        assert record.task is not None
        stage, partition = record.task
        for name, size, digest, uri in record.body["files"]:
            what = f"file {name} of a checkpoint of task {stage}_{partition}"
            found, content = 0, hashlib.blake2b(digest_size=16)
            try:
                for block in fetch(uri, size):
                    found += len(block)
                    content.update(block)
                    if found > size:
                        break  # whoever reads it stops there too
            except UnreadableError as error:
                self._report.find("missing", message, f"{what}: {error}")
                continue
            if found != size or content.hexdigest() != digest:
                detail = f"{what} is not what was stored ({found} bytes of {size})"
                self._report.find("unreadable", message, detail)
