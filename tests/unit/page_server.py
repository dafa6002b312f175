"""A server for the status page alone: its files as shipped, and whatever a test answers."""

from __future__ import annotations

import json
import socket
import threading
import time
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

import kstash.observe

FILES = Path(kstash.observe.__file__).parent / "page"
TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'"
)
"""As strict as a server can be: with the last of these a browser refuses every text as markup."""


class PageServer:
    """Serves the page on a free port of 127.0.0.1 until it is left.

    Attributes:
        answers: what `/workers`, `/topology` and others answer: JSON, or a status code.
        token: what a request must bear; None: nothing.
    """

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers
        self.token: str | None = None
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self.url = f"http://{self.address}/"
        self._server = uvicorn.Server(
            uvicorn.Config(
                Starlette(routes=[Route("/{path:path}", self._answer)]),
                log_level="critical",
                log_config=None,
                lifespan="off",
                ws="none",
                timeout_graceful_shutdown=1,
            )
        )
        self._thread = threading.Thread(
            target=self._server.run, args=([self._socket],), daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.should_exit = True
        self._thread.join(10)
        self._socket.close()

    async def _answer(self, request: Request) -> Response:
        path = request.path_params["path"]
        headers = {"content-security-policy": POLICY, "cache-control": "no-store"}
        file = FILES / (path.removeprefix("static/") or "index.html")
        if path == "" or path.startswith("static/"):
            if not file.is_file():
                return PlainTextResponse("Not Found\n", 404, headers)
            return Response(file.read_bytes(), 200, headers, TYPES[file.suffix])
        if (
            self.token is not None
            and request.headers.get("authorization") != f"Bearer {self.token}"
        ):
            return PlainTextResponse("Unauthorized\n", 401, headers)
        answer = self.answers.get(path, 404)
        if isinstance(answer, int):
            return PlainTextResponse("\n", answer, headers)
        return JSONResponse(answer, headers=headers)


def topology() -> Any:
    """Of an application with edges of all kinds, a merge, two sinks, windows and timers."""
    import kstash

    app = kstash.App("shop")
    clicks = app.stream("clicks", key=kstash.text, value=kstash.json)
    orders = app.stream("orders", key=kstash.text, value=kstash.json)
    rates = app.stream("exchange-rates", key=kstash.text, value=kstash.json)
    minutes = kstash.windowed(kstash.text, timedelta(minutes=1))
    audits = app.stream("audits", key=minutes, value=kstash.int_text)
    (
        clicks.filter(is_human)
        .merge(orders.map_values(in_euros))
        .key_by(lambda event: str(event), key=kstash.text)
        .window(kstash.tumbling(timedelta(minutes=1)), grace=timedelta(seconds=5))
        .count("customers")
        .merge(audits)
        .to("customer-counts", key=minutes, value=kstash.int_text)
    )
    (
        rates.key_by(lambda rate: str(rate), key=kstash.text)
        .count("currencies")
        .process("idle", idle_processor(), value=kstash.int_text)
        .to("currency-counts", key=kstash.text, value=kstash.int_text)
    )
    return json.loads(app.topology().describe("json"))


def idle_processor() -> type[Any]:
    """Of the topology above: one with timers of both kinds, and a state that dies."""
    import kstash

    class Idle(kstash.Processor[str, int, int]):
        seen = kstash.Value("seen", kstash.int_text, ttl=timedelta(hours=1))

        def on_record(self, record: Any, context: Any, /) -> None:
            """Do nothing."""

        def on_timer(self, timer: Any, context: Any, /) -> None:
            """Do nothing."""

        def on_wall_timer(self, timer: Any, context: Any, /) -> None:
            """Do nothing."""

    return Idle


def is_human(event: Any) -> bool:
    """Of the topology above."""
    return bool(event)


def in_euros(event: Any) -> Any:
    """Of the topology above."""
    return event


def history(now: float, seconds: float, *, weight: float) -> list[dict[str, Any]]:
    """Points of the last seconds: a plain with a dip in the middle."""
    points = []
    for index in range(int(seconds / 2)):
        age = seconds - 2 * index
        dip = 0.15 if 100 < age < 112 else 1.0 + 0.07 * ((index * 7919) % 13 - 6) / 6
        points.append(
            {
                "time": now - age,
                "records_in_per_second": 5200.0 * weight * dip,
                "records_out_per_second": 4100.0 * weight * dip,
                "latency_seconds": (0.9 if 96 < age < 112 else 0.011) * weight * 3,
                "lineage_unacked_bytes": int(3000 * weight * (2 - dip)),
                "state_bytes": int(12_000_000 * weight * (index + 20) / (seconds / 2 + 20)),
            }
        )
    return points


STAGES = ("from-clicks", "from-exchange-rates", "customers", "currencies")


def status(worker: int, workers: int, *, partitions: int = 6, now: float | None = None) -> Any:
    """What a worker of several says; its tasks are those of every so manieth partition."""
    now = time.time() if now is None else now
    mine = range(worker, partitions, workers)
    described = topology()
    names = [stage["name"] for stage in described["stages"]]
    tasks = [
        {
            "name": f"{stage['name']}_{partition}",
            "stage": stage["name"],
            "partition": partition,
            "group": partition,
            "state": "live",
            "position": 1_204_331 + 977 * partition + 31 * index,
            "checkpointed_position": 1_200_000 + 500 * partition,
            "replay_end": 900_000,
            "lag_records": 12 * partition + index,
            "lag_seconds": 0.012 * partition,
            "stalled_seconds": 0.0,
            "stream_time": now - 0.012 * partition,
            "inputs": [f"{entry['topic']}/{partition}" for entry in stage["inputs"]],
            "waits_for": [],
            "waits_seconds": 0.0,
            "event_time": now - 0.012 * partition,
            "operator_times": {},
            "operators_held": {},
            "held_seconds": 0.0,
            "held_by": None,
        }
        for index, stage in enumerate(described["stages"])
        for partition in mine
    ]
    return {
        "application_id": "shop",
        "guarantee": "exactly_once",
        "kstash": "0.1.0",
        "state": "live",
        "worker": f"shop-{worker}",
        "time": now,
        "uptime_seconds": 3_912.4 + worker,
        "pid": 4_000 + worker,
        "waiting_for": None,
        "tasks": tasks,
        "operators": operators(now, worker),
        "edges": [edge for name in names for edge in edges_of(described, name, workers)],
        "history": history(now, 280, weight=1 / workers),
        "recoveries": recoveries(now, worker),
        "checkpoints": [
            {
                "task": task["name"],
                "position": task["checkpointed_position"],
                "age_seconds": 4.2 + task["partition"],
                "remote_position": task["checkpointed_position"] - 20_000,
                "remote_age_seconds": 61.0 + task["partition"],
            }
            for task in tasks
        ],
        "errors": errors(now, worker),
    }


def operators(now: float, worker: int) -> list[dict[str, Any]]:
    """Windows that go by time, and a processor whose time is ahead."""
    return [
        {
            "operator": "tumbling(60 s).count(customers)",
            "stage": "customers",
            "stream_time": now - 75.0 - worker,
            "newest_time": now - 2.0,
            "windows": 4_100 + worker,
            "timers": None,
            "dropped": {"late": 2 * worker, "ahead": 0},
            "held_by": {
                "reason": "silent",
                "text": f"nothing comes of clicks/{worker}, whose records move time",
                "seconds": 73.0,
                "input": f"clicks/{worker}",
                "writer": None,
                "time": None,
            },
        },
        {
            "operator": "process(idle)",
            "stage": "currencies",
            "stream_time": now + 3_600.0,
            "newest_time": now + 3_600.0,
            "windows": None,
            "timers": 70,
            "dropped": {},
            "held_by": None,
        },
    ]


def edges_of(described: Any, name: str, workers: int) -> list[dict[str, Any]]:
    """The edges that end at a stage, and those from it to the outside."""
    stages = described["stages"]
    stage = next(stage for stage in stages if stage["name"] == name)
    writers = {out["topic"]: other["name"] for other in stages for out in other["outputs"]}
    read = {entry["topic"] for other in stages for entry in other["inputs"]}
    is_mixed = len({entry["internal"] for entry in stage["inputs"]}) > 1
    found = []
    for entry in stage["inputs"]:
        narrow = "mixed" if is_mixed else "narrow"
        kind = "wide" if entry["internal"] else narrow
        found.append(edge(writers.get(entry["topic"]), name, entry["topic"], kind, workers))
    for out in stage["outputs"]:
        if out["topic"] not in read:
            found.append(edge(name, None, out["topic"], "narrow", workers))
    return found


def edge(start: str | None, end: str | None, topic: str, kind: str, workers: int) -> dict[str, Any]:
    """An edge as `/status` has it."""
    return {
        "from": start,
        "to": end,
        "topic": topic,
        "kind": kind,
        "records_per_second": 120.5 * len(topic) / workers,
        "lag_records": None if end is None else 17 * len(topic),
        "lag_seconds": None if end is None else 0.01 * len(topic),
    }


def recoveries(now: float, worker: int) -> list[dict[str, Any]]:
    """Those of a worker that took over from another one."""
    phases = {
        "detect": 0.21,
        "claim": 0.034,
        "fence": 0.12,
        "scan": 0.19,
        "restore": 0.31,
        "start": 0.022,
        "replay": 0.44,
    }
    return [
        {
            "group": 2 * index + worker,
            "ended": now - 104 - 900 * index,
            "seconds": sum(phases.values()) * (1 + 0.4 * index),
            "replayed": 26_114 * index,
            "phases": {name: seconds * (1 + 0.4 * index) for name, seconds in phases.items()},
        }
        for index in range(2)
    ]


def errors(now: float, worker: int) -> list[dict[str, Any]]:
    """Some of each worker."""
    return [
        {
            "time": now - 108.0 - worker,
            "logger": "kstash.runtime",
            "event": "a task group was given up: another incarnation took it",
            "error": "FencedError: incarnation 4 of group 2 was taken by incarnation 5",
            "place": "task group 2",
        },
        {
            "time": now - 900.0 - worker,
            "logger": "kstash.kafka",
            "event": "a broker does not answer",
            "error": None,
            "place": "in_euros at orders/3/88121",
        },
    ][: 2 - worker % 2]


def answers(workers: int = 3, partitions: int = 6) -> dict[str, Any]:
    """Of a server that knows so many workers, all of them well."""
    return {
        "workers": {
            "workers": [
                {
                    "address": f"10.0.0.{index + 1}:8080",
                    "is_reachable": True,
                    "status": status(index, workers, partitions=partitions),
                    "error": None,
                }
                for index in range(workers)
            ]
        },
        "topology": topology(),
        "livez": {"ok": True, "reasons": []},
    }
