"""Render printed glyphs as small grey images: classes, fonts and rendering.

Shared by the script that pretrains the embedded model and the script that stores the held-out evaluation glyphs, so
that both use the same classes. The fonts are those that matplotlib installs.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
from fontTools.ttLib import TTFont
from PIL import Image, ImageDraw, ImageFont

# No digits, and none of the letters that a printed digit could be mistaken for in another script
# (Cyrillic ze and be): handwritten digits must stay unseen by the model. Letters whose lower case
# is the upper case made smaller are left out, as are characters that repeat across scripts.
CLASSES = (
    "ABCDEFGHIJKLMNOPQRSTUVWXYZ"  # Latin upper case
    "abdefghmnqrty"  # Latin lower case
    "ΓΔΘΛΞΠΣΦΨΩ"  # Greek upper case
    "αβγδεζηθλμξπρστφχψω"  # Greek lower case
    "БДЖИЙЛЦЧШЩЪЫЬЭЮЯ"  # Cyrillic upper case
    "вджилнтфцшъюя"  # Cyrillic lower case
)
assert len(CLASSES) == len(set(CLASSES)) == 97

FULL_FONTS = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-BoldOblique",
    "DejaVuSansMono",
    "DejaVuSansMono-Bold",
    "DejaVuSansMono-BoldOblique",
    "DejaVuSerif",
    "DejaVuSerif-Italic",
    "DejaVuSerif-BoldItalic",
    "STIXGeneral",
    "STIXGeneralBol",
    "STIXGeneralBolIta",
)
LATIN_FONTS = ("cmr10", "cmss10", "cmtt10", "cmb10")
TRAIN_FONTS = FULL_FONTS + LATIN_FONTS
# One face of every full family, so that the style is new but the alphabet is not.
HELD_OUT_FONTS = ("DejaVuSans-Oblique", "DejaVuSansMono-Oblique", "DejaVuSerif-Bold", "STIXGeneralItalic")

SIZE = 40  # pixels a side of a stored render; the model sees 32
EM = 30  # font size in pixels


def font_path(name: str) -> Path:
    """Return the path of a font that matplotlib ships."""
    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf"


def covered(name: str) -> set[str]:
    """Return the characters of `CLASSES` for which a font has an outline."""
    cmap = TTFont(font_path(name)).getBestCmap()
    # The Computer Modern files map code points above ASCII to other symbols.
    chars = CLASSES if name not in LATIN_FONTS else [c for c in CLASSES if c.isascii()]
    return {c for c in chars if ord(c) in cmap}


def render(char: str, name: str) -> np.ndarray:
    """Render one glyph, white on black, centred: uint8, shape (SIZE, SIZE)."""
    font = ImageFont.truetype(str(font_path(name)), EM, layout_engine=ImageFont.Layout.BASIC)
    left, top, right, bottom = font.getbbox(char)
    image = Image.new("L", (SIZE, SIZE), 0)
    at = ((SIZE - (right - left)) / 2 - left, (SIZE - (bottom - top)) / 2 - top)
    ImageDraw.Draw(image).text(at, char, fill=255, font=font)
    return np.asarray(image)


def render_all(fonts: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Render every class in every font that has it.

    Returns:
        images: uint8, shape (n, SIZE, SIZE)
        labels: int64, shape (n,), indices into `CLASSES`
    """
    images, labels = [], []
    for name in fonts:
        for char in sorted(covered(name), key=CLASSES.index):
            images.append(render(char, name))
            labels.append(CLASSES.index(char))
    return np.stack(images), np.asarray(labels)
