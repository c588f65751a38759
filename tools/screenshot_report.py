"""Save a picture of the report of a run: the top of the page, and below it the layers and sites of one dataset.

    python -m tools.screenshot_report latest docs/images/report.png --dataset digits

Needs the extras `report` and `tools`, and Chromium with its driver (Debian: chromium, chromium-driver).
"""

from __future__ import annotations

import argparse
import base64
import io
import sys
import tempfile
from pathlib import Path

from PIL import Image

from probebench.records import run_record
from probebench.records.find import find_record
from probebench.reporting import html
from tools.chromium import Missing, chromium

BOX = """
const box = document.querySelector(arguments[0]).getBoundingClientRect();
return [box.top + scrollY, box.bottom + scrollY];
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a run record, as for `probebench report`")
    parser.add_argument("picture", type=Path, help="the PNG file to write")
    parser.add_argument("--dataset", help="dataset whose layers and sites are shown (default: the first)")
    parser.add_argument("--width", type=int, default=1120, help="width of the window in pixels (default: %(default)s)")
    parser.add_argument("--dark", action="store_true", help="use the dark colour scheme")
    args = parser.parse_args()
    path = find_record(args.run)
    record = run_record.load(path)
    datasets = list(dict.fromkeys(case["dataset"] for case in record["cases"]))
    if args.dataset is not None and args.dataset not in datasets:
        parser.error(f"{path} has no dataset {args.dataset!r}; it has {', '.join(datasets)}")
    number = datasets.index(args.dataset) if args.dataset else 0
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        html.write(record, page, path.name)
        try:
            browser = chromium(Path(folder) / "profile")
        except Missing as missing:
            print(missing, file=sys.stderr)
            return 1
        try:
            parts = _parts(browser, f"{page.as_uri()}#dataset-{number}", number, args.width, args.dark)
        finally:
            browser.quit()
    picture = Image.new("RGB", (parts[0].width, sum(part.height for part in parts)))
    top = 0
    for part in parts:
        picture.paste(part, (0, top))
        top += part.height
    args.picture.parent.mkdir(parents=True, exist_ok=True)
    # A palette reduces the file to a third; this method keeps the few strong colours unchanged.
    palette = picture.quantize(256, method=Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE)
    palette.save(args.picture, optimize=True)
    print(f"{args.picture}: {picture.width} x {picture.height}, {args.picture.stat().st_size / 1000:.0f} kB")
    return 0


def _parts(browser, address: str, number: int, width: int, dark: bool) -> list[Image.Image]:
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(address)
    browser.execute_script("document.activeElement.blur(); scrollTo({top: 0, behavior: 'instant'})")
    _, tiles = browser.execute_script(BOX, ".tiles")
    top, _ = browser.execute_script(BOX, f"#dataset-{number}")
    _, bottom = browser.execute_script(BOX, f"#dataset-{number} details.sweep")
    parts = []
    for start, end in ((0, tiles + 8), (top - 4, bottom)):
        clip = {"x": 0, "y": start, "width": width, "height": end - start, "scale": 1}
        shot = browser.execute_cdp_cmd("Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True})
        parts.append(Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB"))
    return parts


if __name__ == "__main__":
    sys.exit(main())
