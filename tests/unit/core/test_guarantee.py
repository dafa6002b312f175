"""What follows from each guarantee."""

from __future__ import annotations

from typing import get_args

import pytest

from kstash.core.guarantee import Guarantee
from kstash.settings import derived
from kstash.settings.config import Config


def test_the_setting_takes_every_guarantee_by_its_name() -> None:
    """What users write is a plain string, of which the parts of kstash make the guarantee."""
    assert list(get_args(Config.model_fields["guarantee"].annotation)) == list(Guarantee)
    assert derived.guarantee(Config(application_id="a")) is Guarantee.EXACTLY_ONCE
    assert derived.guarantee(Config(application_id="a", guarantee="none")) is Guarantee.NONE


@pytest.mark.parametrize(
    ("guarantee", "logs_lineage", "sends_lineage", "recovers"),
    [
        (Guarantee.EXACTLY_ONCE, True, True, True),
        (Guarantee.WRITE_FIRST, True, False, True),
        (Guarantee.AT_LEAST_ONCE, False, False, True),
        (Guarantee.NONE, False, False, False),
    ],
)
def test_what_a_guarantee_keeps(
    guarantee: Guarantee, *, logs_lineage: bool, sends_lineage: bool, recovers: bool
) -> None:
    """Exact results need lineage; only `none` starts tasks anew."""
    assert guarantee.logs_lineage is logs_lineage
    assert guarantee.sends_lineage is sends_lineage
    assert guarantee.recovers is recovers


def test_a_guarantee_is_written_as_the_setting() -> None:
    """START, labels and log lines have the words that users write."""
    assert [str(guarantee) for guarantee in Guarantee] == [
        "exactly_once",
        "write_first",
        "at_least_once",
        "none",
    ]
