"""Whether run records fit their schema."""

from __future__ import annotations

from functools import cache
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker

from probebench.records.run_record import schema


def validate(record: Any) -> None:
    """Raise `jsonschema.ValidationError` for a record that does not fit."""
    _validator().validate(record)


@cache  # `jsonschema.validate` checks the schema each time as well, which takes longer than a small record
def _validator() -> Draft202012Validator:
    Draft202012Validator.check_schema(schema())
    return Draft202012Validator(schema(), format_checker=FormatChecker())
