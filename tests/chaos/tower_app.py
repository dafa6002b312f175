"""Two or three stages of rolling hashes over merged topics, each with sinks of both deliveries.

    python -m tests.chaos.tower_app [--stages 3] [--without-extras] [--report FILE]
        [options of the applications]

The first stage merges two topics without a repartition topic between. Each further stage `n` takes
the steps of the stage below, keyed anew, and merges another topic into them. Every value begins
with the number of its key and a space, and what is folded in is said in the output; so the outputs
of a stage say which outputs of the stage below it took, in which order.

Writes `<output>-<n>-at-once` (immediate) and `<output>-<n>-plain` (transactional) for each stage.
"""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

import kstash
from kstash.apps.options import Options, shared_options

State = dict[str, Any]

KEYS = {1: 24, 2: 7, 3: 3}
"""How many keys each stage has; a key of a stage falls to one of the next."""


def new() -> State:
    """The beginning of a chain."""
    return {"count": 0, "hash": "", "last": ""}


def follow(state: State, value: str) -> State:
    """One step of a chain."""
    digest = hashlib.sha256(f"{state['hash']} {value}".encode()).hexdigest()[:16]
    return {"count": state["count"] + 1, "hash": digest, "last": value}


def step_of(stage: int, state: State) -> str:
    """What a stage gets of a step of the one below."""
    below = int(state["last"].split()[0])
    return f"{below % KEYS[stage]} {below}/{state['count']}/{state['hash']}"


def key_of(stage: int, value: str) -> str:
    """The key that a value has in a stage."""
    return f"s{stage}-{value.split()[0]}"


def build(
    application_id: str,
    *,
    input_topics: tuple[str, ...],
    output: str,
    stages: int,
    has_extras: bool,
    **settings: Any,
) -> kstash.App:
    """Declare the program.

    Args:
        application_id: of the application.
        input_topics: two of the first stage, then one for each further stage.
        output: prefix of the sinks.
        stages: 2 or 3.
        has_extras: whether further stages merge a topic of their own; else they read one
            internal partition, and so have no lineage.
        settings: of `kstash.Config`.
    """
    app = kstash.App(application_id, **settings)
    left, right = (
        app.stream(topic, key=kstash.text, value=kstash.text) for topic in input_topics[:2]
    )
    values = left.merge(right)
    for stage in range(1, stages + 1):
        chain = values.aggregate(f"chain-{stage}", initial=new, function=follow, value=kstash.json)
        chain.to(f"{output}-{stage}-at-once", value=kstash.json)
        chain.to(f"{output}-{stage}-plain", value=kstash.json, delivery="transactional")
        if stage == stages:
            break
        above = stage + 1
        steps = chain.map_values(partial(step_of, above))
        values = steps.key_by(
            partial(key_of, above), key=kstash.text, value=kstash.text
        ).repartition(f"spread-{above}")
        if has_extras:
            extra = app.stream(input_topics[above], key=kstash.text, value=kstash.text)
            values = values.merge(extra)
    return app


def write_report(path: Path, stages: int, state: kstash.FinalState) -> None:
    """The final state of all stores, as JSON: by store, then by key."""
    found = {
        f"chain-{stage}": {
            key: state.get(f"chain-{stage}", key)
            for key in (f"s{stage}-{number}" for number in range(KEYS[stage]))
        }
        for stage in range(1, stages + 1)
    }
    path.write_text(json.dumps(found))


@shared_options(  # type: ignore[untyped-decorator] # mypy knows it under another name
    application_id="tower", inputs=("left", "right", "extra-2", "extra-3"), output="tower"
)
def main(
    options: Options,
    stages: Annotated[int, typer.Option(min=2, max=3, help="How many.")] = 2,
    without_extras: Annotated[bool, typer.Option(help="Merge in the first stage only.")] = False,
    report: Annotated[Path | None, typer.Option(help="Where the state at the end goes.")] = None,
) -> None:
    """Fold topics into chains of hashes, and those into fewer ones, stage by stage."""
    app = build(
        options.application_id,
        input_topics=options.inputs,
        output=options.output,
        stages=stages,
        has_extras=not without_extras,
    )
    options.run(app, on_end=partial(write_report, report, stages) if report else None)


if __name__ == "__main__":
    typer.run(main)
