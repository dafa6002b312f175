"""Calls to the outside: when one may be started, whose answer counts, how long answers are kept.

An answer is written to the lineage topic first, as a RESULT of its call and incarnation. Once that
is acknowledged, the completion becomes an event, which names both (`determinants.Completed`).

Invariants:

- a call is known by the event that made it, so it is started only when no successor can make
  another history of that event: the request of a key is one for ever;
- a completed call has the answer that its event names, and no other, whoever called again;
- an answer is kept while a recovery may need it: from a retained checkpoint that has the call open,
  or that lies before it.
"""

from __future__ import annotations

from kstash.core.determinants import Completed
from kstash.core.ids import Incarnation, TaskId
from kstash.errors import LineageGapError


def may_start(position: int, confirmed: int) -> bool:
    """Whether a call may be started.

    Args:
        position: of the event that made it.
        confirmed: position through which the history of its task is confirmed (`core.confirmed`).
    """
    return position < confirmed


def is_given_up(made_at: int, taken: int, oldest_open: int | None) -> bool:
    """Whether no recovery needs the answer of a call any more.

    All three are positions; of calls that are known by their record, and not by the event that made
    them, offsets of its input: on a history that was given up, the same record was another event.

    Args:
        made_at: where the call was made.
        taken: what the oldest retained remote checkpoint has taken: up to before this.
        oldest_open: where the oldest call that is open in that checkpoint was made; None: none is.
    """
    return made_at < taken and (oldest_open is None or made_at < oldest_open)


class CallResults:
    """The answers of a task group's calls that were read in its partition of the lineage topic.

    One counts wherever it lies: it is true of its call whoever wrote it, as a call was started only
    when its event was history for good.
    """

    __slots__ = ("_found",)

    def __init__(self) -> None:
        # By task and call: its answers by who wrote them; never empty.
        self._found: dict[tuple[TaskId, bytes], dict[Incarnation, bytes]] = {}

    def fold(self, task: TaskId, call: bytes, incarnation: Incarnation, answer: bytes) -> None:
        """A RESULT was read; one that is read again says the same.

        Args:
            task: that made the call.
            call: identifies it among all others of the task.
            incarnation: that wrote the answer.
            answer: of the outside.
        """
        answers = self._found.setdefault((task, call), {})
        assert answers.setdefault(incarnation, answer) == answer, "two answers under one key"

    def forget(self, task: TaskId, call: bytes, incarnation: Incarnation) -> None:
        """A RESULT was given up."""
        answers = self._found.get((task, call), {})
        answers.pop(incarnation, None)
        if not answers:
            self._found.pop((task, call), None)

    def answer_of(self, task: TaskId, completed: Completed) -> bytes:
        """What a completed call was answered: by the incarnation that its event names.

        Raises:
            LineageGapError: the RESULT is not there.
        """
        answer = self._found.get((task, completed.call), {}).get(completed.incarnation)
        if answer is None:
            raise LineageGapError(
                f"task {task}: event {completed.position} completes a call whose answer, of "
                f"incarnation {completed.incarnation}, is not in the lineage topic"
            )
        return answer

    def newest(self, task: TaskId, call: bytes) -> tuple[Incarnation, bytes] | None:
        """The answer to take for an open call before it is made again; None when there is none.

        That of the highest incarnation, so that all who look at the same records take the same one.
        """
        answers = self._found.get((task, call))
        if not answers:
            return None
        incarnation = max(answers)
        return incarnation, answers[incarnation]
