"""What a pytest item stands for: one case, the cases of a sweep that is withheld, or neither.

Told by attributes: the classes are not imported in a run that has no cases.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import pytest

    from probebench.catalog.cases import Case
    from probebench.measure.availability import SkippedSweep

SWEEP, CASE = "_probe_sweep", "_probe_case"
"""The arguments that a test function of cases is parametrized with."""


UNMEASURED = ("probe", "not measured")
"""The property of a case whose sweep failed or is withheld, as another one explains."""


def param_of(item: pytest.Item) -> Any:
    """The `Case`, or the `SkippedSweep` that stands for many, of an item; None for other items."""
    callspec = getattr(item, "callspec", None)
    return callspec.params.get(CASE) if callspec is not None else None


def case_of(item: pytest.Item) -> Case | None:
    param = param_of(item)
    return cast("Case", param) if hasattr(param, "tap") else None


def cases_of(items: Iterable[pytest.Item]) -> list[Case]:
    """Of tests, each once, in their order."""
    return list(dict.fromkeys(case for item in items if (case := case_of(item)) is not None))


def withheld_of(item: pytest.Item) -> SkippedSweep | None:
    param = param_of(item)
    return cast("SkippedSweep", param) if hasattr(param, "reason") else None
