"""Store a sample of glyphvit's pretraining images, from which the dataset `glyphs_pretraining` is made.

    pip install -e '.[tools]'
    python tools/build_embedded_reference.py        # a few seconds

Writes probebench/embedded/pretraining_glyphs.png: one column per class, 32 x 32 cells, each a render in a font drawn
from those of pretraining and augmented as in pretraining. The pixels are stored because FreeType versions render
outlines differently.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from build_embedded_model import augment, load
from glyphs import CLASSES, TRAIN_FONTS
from PIL import Image

OUT = Path(__file__).parent.parent / "probebench" / "embedded" / "pretraining_glyphs.png"
EACH = 9


def main() -> None:
    images, labels = load(TRAIN_FONTS)
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    rows = []
    for _ in range(EACH):
        picks = [rng.choice(np.flatnonzero(labels.numpy() == label)) for label in range(len(CLASSES))]
        views = augment(images[picks], generator).clamp(0, 1)[:, 0].numpy()
        rows.append(np.concatenate(list(np.rint(views * 255).astype(np.uint8)), axis=1))
    Image.fromarray(np.concatenate(rows)).save(OUT, optimize=True)
    print(f"{OUT.name}: {len(CLASSES)} classes x {EACH} images, {OUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
