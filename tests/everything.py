"""A processor of tests that uses all that processors have, in all that a value says."""

from __future__ import annotations

from datetime import timedelta

import kstash
from kstash import Context, FiredTimer, KeyedStream, Processor, Record


def _ms(count: int) -> timedelta:
    return timedelta(milliseconds=count)


class Everything(Processor[str, str, str]):
    """States with short lives, timers of timers, both outputs; `1` fails after all of it."""

    sides = ("late",)
    value = kstash.Value("value", kstash.text, ttl=_ms(4))
    map = kstash.Map("map", key=kstash.text, value=kstash.json, ttl=_ms(3))
    list = kstash.List("list", kstash.text, ttl=_ms(2))
    fired = kstash.Value("fired", kstash.int_text)

    def on_record(self, record: Record, context: Context[str, str]) -> None:
        """Change each state, set and cancel timers, and say what there is."""
        before = self.value.get("-")
        self.value.set(record.value)
        for letter in record.value:
            self.map.set(letter, [record.timestamp_ms])
        if len(record.value) == 3:
            self.map.delete(record.value[0])
        if record.value == "":
            self.map.clear()
            self.list.clear()
            self.value.delete()
        self.list.append(record.value)
        context.timer("soon", at=record.timestamp_ms + len(record.value))
        if "b" in record.value:
            context.cancel("soon")
            context.timer("b", at=0)
        keys = "".join(key for key, _ in self.map.items())
        context.send(f"{before}{keys}{len(self.list)}")
        if " " in record.value:
            context.send(record.value, to="late", timestamp_ms=context.time_ms + 2, headers=[])
        if "1" in record.value:
            raise LookupError(record.value)

    def on_timer(self, timer: FiredTimer, context: Context[str, str]) -> None:
        """Count, go on for a while, and fail now and then."""
        number = self.fired.get(0) + 1
        self.fired.set(number)
        context.send(f"{timer.name}{number}{self.value.get('-')}")
        context.send(f"{timer.at_ms}", to="late")
        if number % 3:
            context.timer("soon", at=timer.at_ms + 2)
        if number % 5 == 4:
            self.map.set("f", 0)
            raise LookupError(timer.name)


def everything(
    stream: KeyedStream[str, str], name: str
) -> tuple[KeyedStream[str, str], KeyedStream[str, str]]:
    """Both outputs of `Everything`."""
    made = stream.process(name, Everything, value=kstash.text)
    return made, made.side("late", value=kstash.text)
