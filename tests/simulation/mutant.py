"""One rule removed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.simulation.knobs import Mutations
from tests.simulation.patching import Patch
from tests.simulation.shapes import Shape

Apply = Callable[[Patch], Mutations]


@dataclass(frozen=True)
class Mutant:
    """One rule removed.

    Attributes:
        hole: its name.
        rule: that is removed.
        apply: removes it.
        shape: of the runs.
        seeds: that are run first.
        is_refused: whether the runs have a fault that the rule has them refused for: then only
            what goes on in silence is found out.
    """

    hole: str
    rule: str
    apply: Apply
    shape: Shape = field(default_factory=dict)
    seeds: tuple[int, ...] = ()
    is_refused: bool = False

    @contextmanager
    def applied(self) -> Iterator[Mutations]:
        """Remove the rule for a while."""
        patch = Patch()
        try:
            yield self.apply(patch)
        finally:
            patch.undo()
