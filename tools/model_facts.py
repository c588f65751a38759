"""Complete probebench/catalog/models.toml from timm: depth, size, pixel statistics, licence.

    pip install -e '.[tools]'
    python tools/model_facts.py             # after adding a table with name, architecture and pretraining

Existing keys are kept. Those that differ from timm are reported but not changed, because there may be a reason (another
input size). No weights are needed: networks are built without memory for them.
"""

from __future__ import annotations

from pathlib import Path

import tomlkit

from probebench.catalog import ModelSpec
from probebench.models.timm_spec import complete_spec

FILE = Path(__file__).parent.parent / "probebench" / "catalog" / "models.toml"
KEYS = (
    "depth",
    "width",
    "parameters",
    "download_size",
    "input_size",
    "mean",
    "std",
    "interpolation",
    "crop",
    "source",
    "licence",
)
ORDER = ("architecture", *KEYS[:9], "kwargs", "source", "pretraining", "licence", "note")


def facts(name: str, table: dict[str, object]) -> dict[str, object]:
    """Return timm's values for the model of a table."""
    spec = complete_spec(ModelSpec(name, str(table["architecture"]), kwargs=dict(table.get("kwargs", {}))))
    values = {key: getattr(spec, key) for key in KEYS}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items() if value != ""}


def main() -> None:
    document = tomlkit.parse(FILE.read_text(encoding="utf-8"))
    for name, table in document.items():
        if table["architecture"] == "VisionTransformer":
            continue
        for key, value in facts(name, table.unwrap()).items():
            if key not in table:
                table[key] = value
            elif table[key] != value:
                print(f"{name}: {key} is {table[key]}, timm says {value}")
        for key in ORDER:
            if key in table:
                value = table.pop(key)
                table[key] = value
    FILE.write_text(tomlkit.dumps(document), encoding="utf-8")


if __name__ == "__main__":
    main()
