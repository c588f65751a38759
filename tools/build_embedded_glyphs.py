"""Store the held-out glyph renders from which the `glyphs` dataset is made.

    pip install -e '.[tools]'
    python tools/build_embedded_glyphs.py           # takes a second

Writes probebench/embedded/heldout_glyphs.png: one row per font, one 40 x 40 cell per class, white on black. The
pixels are stored, not rendered at run time, because FreeType versions render outlines differently.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from glyphs import CLASSES, HELD_OUT_FONTS, covered, render
from PIL import Image

OUT = Path(__file__).parent.parent / "probebench" / "embedded" / "heldout_glyphs.png"


def main() -> None:
    for name in HELD_OUT_FONTS:
        missing = set(CLASSES) - covered(name)
        if missing:
            raise SystemExit(f"{name} has no outline for {sorted(missing)}: hold out another font")
    sheet = np.concatenate([np.concatenate([render(c, name) for c in CLASSES], axis=1) for name in HELD_OUT_FONTS])
    OUT.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).save(OUT, optimize=True)
    print(f"{OUT.name}: {len(CLASSES)} classes x {len(HELD_OUT_FONTS)} fonts, {OUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
