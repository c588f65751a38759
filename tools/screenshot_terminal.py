"""Save the leaderboard of a run in a colour terminal as a self-contained SVG file.

    python -m tools.screenshot_terminal latest docs/images/leaderboard.svg

The picture shows the output of `probebench show`. Its text can be searched and read aloud.
"""

from __future__ import annotations

import argparse
import io
import re
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import DEFAULT_TERMINAL_THEME
from rich.text import Text

from probebench.records import run_record
from probebench.records.find import find_record
from probebench.records.tap_selection import with_selections
from probebench.reporting.terminal import leaderboard


def picture(text: str, title: str, width: int) -> str:
    """Convert text with terminal escape codes to SVG."""
    console = Console(record=True, width=width, file=io.StringIO(), legacy_windows=False)
    console.print(Text.from_ansi(text), soft_wrap=False)
    svg = console.export_svg(title=title, theme=DEFAULT_TERMINAL_THEME)
    # rich's SVG loads a font from a server. Each character has a fixed position, so any monospaced font works.
    return re.sub(r"@font-face\s*{[^}]*}", "", svg).replace("Fira Code,", "Menlo, DejaVu Sans Mono, Consolas,")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a run record, as for `probebench show`")
    parser.add_argument("picture", type=Path, help="the SVG file to write")
    parser.add_argument("--level", default="normal", help="as `probebench show --level` (default: %(default)s)")
    parser.add_argument("--width", type=int, default=100, help="width in characters (default: %(default)s)")
    args = parser.parse_args()
    path = find_record(args.run)
    record = run_record.load(path)
    shown = with_selections(record, run_record.load_correct(record, path))
    text = leaderboard.render(shown, level=args.level, width=args.width, color=True, ascii_only=False)
    args.picture.parent.mkdir(parents=True, exist_ok=True)
    args.picture.write_text(picture(text, f"probebench show {path.name}", args.width), encoding="utf-8")
    print(f"{args.picture}: {args.picture.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
