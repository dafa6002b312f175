"""What completion shows to users of the classes that they declare with: what they call, no more."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

import kstash

SHOWN: dict[type, str] = {
    kstash.Value: "delete get set",
    kstash.Map: "clear delete get items set",
    kstash.List: "append clear extend",
    kstash.Windows: "",
    kstash.WindowedStream: (
        "aggregate aggregate_all collect count max mean min reduce statistics sum"
    ),
    kstash.Processor: "close on_record on_timer on_wall_timer open sides",
    kstash.Context: "cancel cancel_wall_timer now origin random record send timer uuid wall_timer",
    kstash.App: "application_id configure run stop stream topology",
    kstash.Config: "load override",
    kstash.FinalState: "get owns",
    kstash.Topology: (
        "application_id checkpoints_topic describe hash input_topics internal_topics lineage_topic "
        "output_topics stages topics"
    ),
}
"""Names without an underscore, of the class. What is of the engine has one, or is elsewhere.

Settings are not among those of `Config`: a field is no attribute of its class. Nor is what pydantic
gives to all of its classes.
"""


def shown(kind: type) -> list[str]:
    """Names of a class, but for those of pydantic."""
    given = dir(BaseModel) if issubclass(kind, BaseModel) else ()
    return [name for name in dir(kind) if not name.startswith("_") and name not in given]


@pytest.mark.parametrize("kind", SHOWN, ids=lambda kind: kind.__name__)
def test_a_class_shows_what_its_users_call(kind: type) -> None:
    """A new name here is one that users find, and may build on."""
    assert shown(kind) == SHOWN[kind].split()
