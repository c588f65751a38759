"""Time making, loading and filtering a report of 20,000 cases in a headless Chromium.

    python -m benchmarks.performance.report
    python -m benchmarks.performance.report --slowdown 4    # slow the processor down four times, as in a phone

Run it from the root of the repository, with the extras `report` and `test`, and Chromium with its driver. The time of
loading is from the start of the navigation to the end of the load event, scripts included. Every other time is from an
action of the reader to the frame that shows its result. All are medians over the rounds.
"""

from __future__ import annotations

import argparse
import gzip
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tabulate import tabulate

from probebench.reporting import html
from tests.reporting.html.records import large
from tools.chromium import Missing, chromium

LOAD = "const n = performance.getEntriesByType('navigation')[0]; return n.loadEventEnd - n.startTime"
ACTIONS = {
    "search for `vit_03 act dataset_05`": "form.elements.text.value = 'vit_03 act dataset_05'; changed(form)",
    "clear the search": "form.elements.text.value = ''; changed(form)",
    "filter by model": "form.elements.model.value = 'vit_02'; changed(form)",
    "reset": "form.reset()",
    "sort by accuracy": "board.querySelector('[data-key=accuracy] button').click()",
    "sort by model": "board.querySelector('[data-key=model] button').click()",
    "next page": "document.querySelector('.pager [name=next]').click()",
    "open a dataset with all its models": "document.querySelectorAll('#dataset-1, #dataset-1 details')"
    ".forEach(each => { each.open = true; })",
}
TIMED = """
const done = arguments[0], form = document.querySelector(".filters"), board = document.getElementById("board");
const changed = (element) => element.dispatchEvent(new Event("input", { bubbles: true }));
const start = performance.now();
%s;
// A reset is carried out in a turn of its own; the frame after it is drawn when the next one begins.
setTimeout(() => requestAnimationFrame(() => setTimeout(() => done(performance.now() - start))));
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=34, help="half of them random controls (default: %(default)s)")
    parser.add_argument("--datasets", type=int, default=6, help="default: %(default)s")
    parser.add_argument(
        "--slowdown", type=float, default=1, help="of the processor, by Chromium (default: %(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    args = parser.parse_args()
    record = large(args.models, args.datasets)
    rows: list[tuple[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        start = time.perf_counter()
        size = html.write(record, page)
        rows.append(("make it, in Python", 1000 * (time.perf_counter() - start)))
        packed = len(gzip.compress(page.read_bytes()))
        try:
            browser = chromium(Path(folder) / "profile")
        except Missing as missing:
            print(missing, file=sys.stderr)
            return 1
        try:
            rows += measure(browser, page.as_uri(), args.slowdown, args.rounds)
        finally:
            browser.quit()
    print(
        f"{len(record['cases']):,} cases in {len(record['sweeps'])} sweeps: {size / 1e6:.1f} MB, {packed / 1e6:.1f} MB "
        f"packed; processor slowed down {args.slowdown:g} times in the browser"
    )
    print(tabulate(rows, headers=("", "ms"), floatfmt=".0f", tablefmt="github"))
    return 0


def measure(browser, address: str, slowdown: float, rounds: int) -> list[tuple[str, float]]:
    times: dict[str, list[float]] = {"load": [], **{name: [] for name in ACTIONS}}
    browser.execute_cdp_cmd("Emulation.setCPUThrottlingRate", {"rate": slowdown})
    for _ in range(rounds):
        browser.get("about:blank")
        browser.get(address)
        times["load"].append(browser.execute_script(LOAD))
        for name, action in ACTIONS.items():
            times[name].append(browser.execute_async_script(TIMED % action))
    return [(name, statistics.median(found)) for name, found in times.items()]


if __name__ == "__main__":
    sys.exit(main())
