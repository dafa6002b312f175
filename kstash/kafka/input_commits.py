"""Offsets of inputs, committed in the application's group for lag tools alone.

One commit at a time: what piled up while the broker is away would be of a member that is gone. Of
what was to be committed meanwhile the last counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import structlog
from confluent_kafka import KafkaError, TopicPartition

from kstash.kafka import failures
from kstash.ports.kafka import Partition

FINISH_DEADLINE_S = 1.0
FINISH_PAUSE_S = 0.01


class InputCommits:
    """Commits without waiting; a failure is logged, not raised.

    Args:
        send: gives offsets to the client, which calls `on_commit` with the answer.
        monotonic: seconds that never go back.
    """

    def __init__(
        self, send: Callable[[list[TopicPartition]], object], monotonic: Callable[[], float]
    ) -> None:
        self._send = send
        self._monotonic = monotonic
        self._log = structlog.get_logger("kstash.kafka")
        self._is_pending = False
        self._unsent: Mapping[Partition, int] | None = None

    def note(self, offsets: Mapping[Partition, int]) -> None:
        """Commit these, at once or after the commit that is under way."""
        self._unsent = offsets
        if not self._is_pending:
            self._send_unsent()

    def finish(self, serve: Callable[[], bool]) -> None:
        """Send the last commit; the client waits for its answer when it closes.

        Args:
            serve: has the client call back; returns whether it still can.
        """
        deadline = self._monotonic() + FINISH_DEADLINE_S
        while self._unsent is not None and self._is_pending:
            if self._monotonic() >= deadline or not serve():
                return
            time.sleep(FINISH_PAUSE_S)
        if self._unsent is not None:
            self._send_unsent()

    def forget(self) -> None:
        """Wait for no answer any more: the client that was to give it is gone."""
        self._is_pending = False

    def on_commit(self, error: KafkaError | None, _: list[TopicPartition]) -> None:
        """Take the client's answer."""
        self._is_pending = False
        # In a rebalance this fails and the next one succeeds.
        if error is not None:
            self._log_failure(error)

    def _send_unsent(self) -> None:
        offsets, self._unsent = self._unsent or {}, None
        try:
            self._send([TopicPartition(topic, p, at) for (topic, p), at in offsets.items()])
            self._is_pending = True
        except failures.CLIENT_ERRORS as error:
            self._log_failure(error)

    def _log_failure(self, error: BaseException | KafkaError) -> None:
        self._log.debug("offsets for lag tools not committed", error=failures.describe(error))
