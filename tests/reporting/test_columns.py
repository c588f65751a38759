from __future__ import annotations

import pytest

from probebench.records.view import RecordView
from probebench.reporting.columns import COLUMNS
from tests.reporting.boards import full, record


def test_names_in_files_and_keys_are_distinct():
    assert len({column.name for column in COLUMNS.values()}) == len(COLUMNS)


@pytest.mark.parametrize("some", [record, full])
def test_every_column_has_a_text_for_every_row(some):
    view = RecordView(some())
    for key, column in COLUMNS.items():
        if key != "seconds":  # which these records do not have
            assert all(isinstance(column.text(row, view.by_key[row.key]), str) for row in view.rows), key


def test_a_cell_has_the_value_of_its_row_and_of_the_selection_of_its_sweep():
    view = RecordView(full())
    row = next(row for row in view.rows if row.tap.id == "L01-act")
    sweep = view.by_key[row.key]
    found = {
        key: COLUMNS[key].text(row, sweep) for key in ("rank", "tap", "accuracy", "interval", "output", "per_class")
    }
    assert found == {
        "rank": "1",
        "tap": "L01-act",
        "accuracy": "90.0",
        "interval": "85.0-95.0",
        "output": "+15.0",
        "per_class": "89.0",
    }
    assert [COLUMNS[key].value(row, sweep) for key in ("selection", "tied", "earliest")] == ["tied", 1, "L01-act"]
