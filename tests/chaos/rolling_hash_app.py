"""An application whose state depends on the order of its inputs, to be killed by the tests.

Two topics with the same keys are merged and folded into one hash for each key, with no repartition
topic between: which record comes next is decided by this worker alone, so a recovery that does not
replay the logged order gets other hashes.

    python -m tests.chaos.rolling_hash_app [--without-chunks] [--transactional-output TOPIC]
        [options of the applications]
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

import typer

import kstash
from kstash.apps.options import Options, shared_options
from kstash.core.stash import Stash

State = dict[str, Any]


def follow(state: State, value: str) -> State:
    """One step of the chain: the output says what was consumed, so that anyone can check it."""
    digest = hashlib.sha256(f"{state['hash']} {value}".encode()).hexdigest()[:16]
    return {"count": state["count"] + 1, "hash": digest, "last": value}


def build(
    application_id: str,
    *,
    input_topics: tuple[str, ...],
    output_topic: str,
    transactional_output: str | None = None,
    **settings: Any,
) -> kstash.App:
    """Declare the program: merge the inputs, fold each key's values into a chain of hashes.

    Args:
        application_id: of the application.
        input_topics: two.
        output_topic: gets the outputs by immediate delivery.
        transactional_output: gets the same ones by transactional delivery, if given.
        settings: of `kstash.Config`.
    """
    app = kstash.App(application_id, **settings)
    first, second = (
        app.stream(topic, key=kstash.text, value=kstash.text) for topic in input_topics
    )
    chains = first.merge(second).aggregate(
        "chains",
        initial=lambda: {"count": 0, "hash": "", "last": ""},
        function=follow,
        value=kstash.json,
    )
    chains.to(output_topic, key=kstash.text, value=kstash.json)
    if transactional_output is not None:
        chains.to(
            transactional_output, key=kstash.text, value=kstash.json, delivery="transactional"
        )
    return app


def leave_chunks_out() -> None:
    """Break the chunk rule: no output carries lineage any more."""

    def no_chunk(self: Stash, start: int, end: int) -> bytes | None:  # noqa: ARG001 - as replaced
        return None

    Stash.chunk = no_chunk  # type: ignore[method-assign]


@shared_options(  # type: ignore[untyped-decorator] # mypy knows it under another name
    application_id="rolling-hash", inputs=("left", "right"), output="chains"
)
def main(
    options: Options,
    without_chunks: Annotated[bool, typer.Option(help="Break the protocol on purpose.")] = False,
    transactional_output: Annotated[str | None, typer.Option(help="A second output.")] = None,
) -> None:
    """Fold two topics into one chain of hashes for each key."""
    if without_chunks:
        leave_chunks_out()
    options.run(
        build(
            options.application_id,
            input_topics=options.inputs,
            output_topic=options.output,
            transactional_output=transactional_output,
        )
    )


if __name__ == "__main__":
    typer.run(main)
