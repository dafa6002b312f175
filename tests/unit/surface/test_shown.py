"""What completion shows to users of the classes that they declare with: what they call, no more."""

from __future__ import annotations

import pytest

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
}
"""Names without an underscore, of the class. What is of the engine has one, or is elsewhere."""


@pytest.mark.parametrize("kind", SHOWN, ids=lambda kind: kind.__name__)
def test_a_class_shows_what_its_users_call(kind: type) -> None:
    """A new name here is one that users find, and may build on."""
    assert [name for name in dir(kind) if not name.startswith("_")] == SHOWN[kind].split()
