"""Tell what a pytest item stands for: one case, the cases of a skipped sweep, or neither.

Parameters are told apart by duck typing, so that runs without cases never import their classes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest
    from typing_extensions import TypeIs

    from probebench.catalog.cases import Case
    from probebench.measure.availability import SkippedSweep

SWEEP, CASE = "_probe_sweep", "_probe_case"
"""The arguments with which test functions of cases are parametrized."""


UNMEASURED = ("probe", "not measured")
"""The user property of a case that another case of its sweep explains: the sweep failed or was skipped."""


def param_of(item: pytest.Item) -> Case | SkippedSweep | None:
    """The `Case` of an item, or the `SkippedSweep` that stands for many cases; None for other items."""
    callspec = getattr(item, "callspec", None)
    return callspec.params.get(CASE) if callspec is not None else None


def is_case(param: Case | SkippedSweep) -> TypeIs[Case]:
    """Tell a case from a skipped sweep."""
    return hasattr(param, "tap")


def case_of(item: pytest.Item) -> Case | None:
    param = param_of(item)
    return param if param is not None and is_case(param) else None


def cases_of(items: Iterable[pytest.Item]) -> list[Case]:
    """The cases of some tests, each once, in their order."""
    return list(dict.fromkeys(case for item in items if (case := case_of(item)) is not None))


def skipped_of(item: pytest.Item) -> SkippedSweep | None:
    param = param_of(item)
    return param if param is not None and not is_case(param) else None


def set_property(item: pytest.Item, found: tuple[str, object]) -> None:
    """Set a user property of an item; one that runs again because it failed still has those of its first attempt."""
    item.user_properties[:] = [each for each in item.user_properties if each[0] != found[0]] + [found]
