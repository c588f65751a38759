"""The types of records are held to their JSON schema."""

from __future__ import annotations

import types
from typing import Any, Literal, NotRequired, Union, get_args, get_origin, get_type_hints, is_typeddict

import pytest

from probebench.records import types as record_types
from probebench.records.run_record import schema
from probebench.records.types import Record

SCHEMA = schema()
NAMES = {type(None): "null", bool: "boolean", int: "integer", float: "number", str: "string"}


def resolved(node):
    if "$ref" not in node:
        return node
    return SCHEMA["$defs"][node["$ref"].rpartition("/")[2]]


def branches(node):
    """The alternatives of a node of the schema, each with one JSON type or an enumeration."""
    node = resolved(node)
    if "oneOf" in node:
        return [branch for one in node["oneOf"] for branch in branches(one)]
    if "const" in node:
        return [{"type": NAMES[type(node["const"])]}]
    if "enum" in node:
        return [{"type": "string", "enum": node["enum"]}]
    kinds = node["type"] if isinstance(node["type"], list) else [node["type"]]
    return [node | {"type": kind} for kind in kinds]


def members(hint):
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def problems(hint, node, path):
    """Where a type and a node of the schema differ, one line each."""
    if hint is Any:
        return []
    found, nodes = [], branches(node)
    for member in members(hint):
        kind = kind_of(member)
        same = [one for one in nodes if one["type"] == kind]
        if is_typeddict(member) and len(same) > 1:
            same = [one for one in same if set(one["properties"]) == set(member.__annotations__)]
        if not same:
            found.append(f"{path}: {kind} is not in the schema")
        for one in same:
            found += inside(member, one, path)
    known = {kind_of(member) for member in members(hint)}
    return found + [f"{path}: {one['type']} is not in the type" for one in nodes if one["type"] not in known]


def kind_of(hint):
    if is_typeddict(hint) or get_origin(hint) is dict:
        return "object"
    if get_origin(hint) is list:
        return "array"
    return "string" if get_origin(hint) is Literal else NAMES[hint]


def inside(hint, node, path):
    if get_origin(hint) is Literal:
        return [] if set(get_args(hint)) == set(node.get("enum", ())) else [f"{path}: other values"]
    if get_origin(hint) is list:
        return problems(get_args(hint)[0], node["items"], f"{path}[]")
    if get_origin(hint) is dict:
        value = node.get("additionalProperties", True)
        return [] if value is True else problems(get_args(hint)[1], value, f"{path}.*")
    if not is_typeddict(hint):
        return []
    if "properties" not in node:  # described elsewhere in the schema
        return []
    hints = get_type_hints(hint)
    found = [f"{path}: {key} is only in one" for key in set(hints) ^ set(node["properties"])]
    marked = get_type_hints(hint, include_extras=True)
    required = {key for key in hint.__required_keys__ if get_origin(marked[key]) is not NotRequired}
    found += [f"{path}: {key} is required in only one" for key in required ^ set(node.get("required", ()))]
    for key in set(hints) & set(node["properties"]):
        found += problems(hints[key], node["properties"][key], f"{path}.{key}")
    return found


def test_the_types_are_those_of_the_schema():
    assert problems(Record, SCHEMA, "run") == []


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda case: case["properties"].pop("gap"), "run.cases[]: gap is only in one"),
        (lambda case: case["required"].remove("seconds"), "run.cases[]: seconds is required in only one"),
        (lambda case: case["properties"].update(lost={"type": "string"}), "run.cases[].lost: integer is not in the"),
        (lambda case: case["properties"]["verdict"]["enum"].append("stale"), "run.cases[].verdict: other values"),
        (lambda case: case["properties"]["C"].update(type="number"), "run.cases[].C: null is not in the schema"),
        (lambda case: case["properties"]["n_test"].update(type=["integer", "null"]), "n_test: null is not in the type"),
    ],
)
def test_a_difference_is_found(monkeypatch, change, line):
    changed = schema()
    change(changed["$defs"]["case"])
    monkeypatch.setitem(SCHEMA, "$defs", changed["$defs"])
    assert any(line in problem for problem in problems(Record, SCHEMA, "run"))


def test_every_type_is_used():
    def reach(hint):
        for member in members(hint):
            if is_typeddict(member):
                yield member
                for inner in get_type_hints(member).values():
                    yield from reach(inner)
            else:
                for inner in get_args(member):
                    yield from reach(inner)

    defined = {value for value in vars(record_types).values() if is_typeddict(value)}
    parts = {record_types.TapScore, record_types.ScoredCase}  # parts of a case
    assert defined - parts == set(reach(Record))
