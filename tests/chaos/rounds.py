"""One round of the adversary: a tower is hurt, then comes to its end in calm water and is checked.

Each check is for itself, so that one violation does not hide another. After the acts the input
ends, the workers finish and stop in order, an auditor (the same program on an empty disk) runs to
the ends and writes down its state, and foreign readers read all sinks.
"""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from confluent_kafka.admin import AdminClient

from tests.chaos.acts import (
    ACT_COUNTS,
    SCENARIOS,
    STOP_S_MAX,
    last_line,
    make_stage,
    wait_ready,
)
from tests.chaos.checkers import Outputs, read_committed, read_inputs, read_with_rule
from tests.chaos.cluster import Cluster
from tests.chaos.counts import Counts
from tests.chaos.dump import dump_topics
from tests.chaos.harness import Chaos, Feeder, Record, processes_of
from tests.chaos.owners import OwnerWatch
from tests.chaos.tower import MODULE, Shape, Tower, Views

OUTPUTS_S_MAX = 120.0
"""For what was held up by the last act, on a machine with other work."""

RUN_S_MAX = 150.0
"""For a bounded run to end when nobody hurts it any more."""

AUDIT_S_MAX = 120.0
VACANCY_S_MAX = 30.0


class Round:
    """One application, hurt and checked.

    Args:
        chaos: seed, diary and folder.
        cluster: one broker, with lanes.
        scenario: a name in `SCENARIOS`.
        shape: of the application.
    """

    def __init__(self, chaos: Chaos, cluster: Cluster, scenario: str, shape: Shape) -> None:
        self.chaos = chaos
        self.bootstrap = cluster.bootstrap
        self.scenario = scenario
        self.tower = Tower(chaos, shape)
        self.sent: set[str] = set()
        self.acts: Counter[str] = Counter()  # how often each was played
        count = shape.partition_count
        self.counts = Counts(self.bootstrap, self.tower.sinks, count)
        extra = ("--until", "end") if scenario == "bounded" else ()
        self.owner_watches: list[OwnerWatch] = []
        self.stage = make_stage(
            chaos,
            cluster,
            self.tower,
            lambda: self.counts.total,
            lambda: self.owners.vacancies.vacant,
            *extra,
        )
        self.watch_owners()
        self.feeders: list[Feeder] = []

    def watch_owners(self) -> None:
        """A watch from now on; not started."""
        count = self.tower.shape.partition_count
        name = self.tower.application_id
        self.owner_watches.append(OwnerWatch(self.bootstrap, name, count, self.stage.up))

    @property
    def owners(self) -> OwnerWatch:
        """The watch of now."""
        return self.owner_watches[-1]

    @property
    def longest_vacancy_s(self) -> float:
        """The longest time that a task group had no owner, in seconds."""
        return max(watch.vacancies.longest[0] for watch in self.owner_watches)

    @property
    def violations(self) -> list[str]:
        """What was found so far."""
        return self.stage.violations

    # -- the play --------------------------------------------------------------------------------

    def run(self) -> None:
        """Hurt, then check; what was found is in `violations`."""
        self.counts.start()
        self.owners.start()
        try:
            self.play()
        finally:
            self.end_input()
        self.finish()

    def play(self) -> None:
        """Start the workers and play the acts, while input flows."""
        self.feed(self.tower.shape.rate)
        for worker in self.stage.workers:
            self.stage.start(worker)
        if self.chaos.random.random() < 0.8:
            for worker in self.stage.workers:
                wait_ready(worker)
        self.play_acts()

    def play_acts(self) -> None:
        """Some acts of the scenario, one after the other."""
        low, high = ACT_COUNTS.get(self.scenario, (3, 5))
        for _ in range(self.chaos.random.randint(low, high)):
            act = self.chaos.random.choice(SCENARIOS[self.scenario])
            self.acts[act.__name__] += 1
            self.chaos.note(f"act {act.__name__}")
            self.check(act.__name__, partial(act, self.stage))
            self.stage.restart_ended()
            self.stage.pause(0.2, 2.0)

    def feed(self, rate: int) -> Feeder:
        """Let input flow."""
        feeder = Feeder(self.bootstrap, self.tower.record, rate=rate)
        self.feeders.append(feeder)
        feeder.start()
        return feeder

    def end_input(self) -> None:
        """No more input."""
        for feeder in self.feeders:
            feeder.finish()
            self.sent.update(value for *_, value in feeder.sent)
        self.feeders.clear()

    # -- the end ---------------------------------------------------------------------------------

    def finish(self) -> None:
        """Let all come to its end, and check it."""
        inputs = self.read_inputs()
        due = self.tower.output_counts(inputs)
        self.chaos.note(f"calm; outputs due: {due}")
        is_complete = self.check("all outputs", lambda: self.wait_outputs(due))
        if not is_complete:
            self.show_stacks()
        self.counts.finish()
        self.owners.finish()
        self.check("vacancies", self.check_vacancies)
        if is_complete:
            self.check("orderly stop", self.stop_workers)
        for worker in self.chaos.workers:
            worker.kill()
        report = self.chaos.folder / "state.json"
        self.check("auditor", lambda: self.audit(report))
        self.check("processes", self.check_processes)
        views = self.read_views()
        if views:
            self.judge(views, inputs, is_complete=is_complete)
            if report.exists():
                self.check("state", lambda: self.check_state(views, report))

    def judge(
        self, views: Sequence[Views], inputs: Sequence[Record], *, is_complete: bool = True
    ) -> None:
        """All views of all stages."""
        self.tower.check(views, inputs, self.check, is_complete=is_complete)

    def read_inputs(self) -> list[Record]:
        """All records of the input topics; those that the test sent must be there."""
        inputs = read_inputs(self.bootstrap, self.tower.inputs)
        lost = self.sent - {value for *_, value in inputs}
        self.check("input", lambda: _assert(not lost, f"the test lost {len(lost)} inputs"))
        return inputs

    def wait_outputs(self, due: dict[str, int]) -> None:
        """Wait until plain readers have seen so many outputs of each sink."""
        deadline = time.monotonic() + OUTPUTS_S_MAX
        while any(self.counts.seen[topic] < count for topic, count in due.items()):
            missing = {t: f"{self.counts.seen[t]} of {n}" for t, n in due.items()}
            assert time.monotonic() < deadline, f"after {OUTPUTS_S_MAX:g} s: {missing}"
            self.stage.restart_ended()
            time.sleep(0.1)

    def check_vacancies(self) -> None:
        """No task group was without an owner for long."""
        longest_s, group = self.owners.vacancies.longest
        self.chaos.note(f"longest time without an owner: {longest_s:.1f} s (group {group})")
        assert longest_s <= VACANCY_S_MAX, f"group {group} had no owner for {longest_s:.1f} s"

    def stop_workers(self) -> None:
        """All at once, as a deployment stops."""
        running = [worker for worker in self.stage.everybody if worker.is_running()]
        for worker in running:
            if worker in self.stage.workers:
                assert wait_ready(worker), f"{worker.name} is not READY: {last_line(worker)}"
        for worker in running:
            worker.send(signal.SIGTERM)
        codes = {worker.name: worker.wait(STOP_S_MAX) for worker in running}
        wrong = {n: code for n, code in codes.items() if code and n not in self.stage.doomed}
        assert not wrong, f"exit codes after SIGTERM: {codes}"

    def audit(self, report: Path) -> None:
        """The same program on an empty disk, to the ends: it writes down its state."""
        if report.exists():
            report.unlink()
        options = ["--until", "end", "--report", str(report)]
        auditor = self.chaos.worker(
            "auditor", *(MODULE, *self.tower.options, *options), environment=self.tower.environment
        )
        auditor.start()
        try:
            code = auditor.wait(AUDIT_S_MAX)
        except AssertionError:
            auditor.send(signal.SIGABRT)
            auditor.wait()
            raise
        assert code == 0, f"the auditor left with {code}: {last_line(auditor)}"

    def check_processes(self) -> None:
        """Nothing of this application runs any more."""
        found = processes_of(self.tower.application_id)
        assert not found, f"processes left: {found}"

    def read_views(self) -> list[Views]:
        """What readers find in the sinks; empty when one of them cannot read."""
        views: list[Views] = []

        def read() -> None:
            for number in self.tower.stages:
                at_once, plain = self.tower.sinks_of(number)
                views.append(
                    Views(
                        self.cut(at_once, read_committed(self.bootstrap, at_once)),
                        self.cut(at_once, read_with_rule(self.bootstrap, at_once)),
                        self.cut(plain, read_committed(self.bootstrap, plain)),
                    )
                )

        return views if self.check("reading the sinks", read) else []

    def cut(self, topic: str, outputs: Outputs) -> Outputs:  # noqa: ARG002 - for other rounds
        """What of a sink's outputs is judged: all of them."""
        return outputs

    def check_state(self, views: Sequence[Views], report: Path) -> None:
        """What the auditor found is what follows from the outputs."""
        found = json.loads(report.read_text())
        for store, expected in self.tower.final_state(views).items():
            wrong = {
                key: found[store][key] for key in expected if found[store][key] != expected[key]
            }
            shown = [f"{key}: {wrong[key]} not {expected[key]}" for key in sorted(wrong)[:2]]
            assert not wrong, f"{len(wrong)} of {len(expected)} keys of {store}: {shown}"

    def show_stacks(self) -> None:
        """Have what hangs write down where each thread is."""
        running = [worker for worker in self.chaos.workers if worker.is_running()]
        for worker in running:
            worker.send(signal.SIGCONT)
            worker.send(signal.SIGABRT)
        for worker in running:
            self.check("stacks", worker.wait)

    def check(self, what: str, check: Callable[[], object]) -> bool:
        """Run one check; returns whether it held."""
        try:
            check()
        except AssertionError as error:
            self.stage.violate(f"{what}: {error}")
            return False
        return True

    def close(self) -> None:
        """End all threads; brokers and connections are whole again."""
        self.counts.finish()
        self.owners.finish()
        cluster = self.stage.cluster
        for lane in cluster.lanes:
            lane.heal()
        if not cluster.brokers.is_alive():
            cluster.brokers.restart()

    # -- what is left ----------------------------------------------------------------------------

    def topics(self) -> list[str]:
        """All topics of this round."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        own = set(self.tower.inputs) | set(self.tower.sinks)
        prefix = f"{self.tower.application_id}-"
        return [t for t in admin.list_topics(timeout=30).topics if t in own or t.startswith(prefix)]

    def delete_topics(self) -> None:
        """Make room on the broker."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        for future in admin.delete_topics(self.topics()).values():
            future.result(timeout=30)

    def dump(self) -> None:
        """Write down everything that is in Kafka, and the story."""
        dump_topics(self.bootstrap, self.topics(), self.chaos.folder / "topics")
        story = ["\n".join(self.violations), str(self.tower.shape), self.chaos.report()]
        (self.chaos.folder / "story.txt").write_text("\n\n".join(story))


def _assert(condition: bool, message: str) -> None:
    assert condition, message
