"""The text that `probebench demo` prints: a heat map, what it shows and what it does not, and what to do next."""

from __future__ import annotations

from rich.console import RenderableType
from rich.text import Text

from probebench._format import counted, interval, percent, signed
from probebench.catalog.taps import OUTPUT, REFERENCES, SITES, Tap
from probebench.cli.next_steps import next_steps
from probebench.measure.result import SweepResult
from probebench.probes.evaluate import TapResult
from probebench.records.cases import tap_of
from probebench.records.ranking import choose
from probebench.reporting.sentences import SHIFT_WORDS
from probebench.reporting.terminal.console import render_text
from probebench.reporting.terminal.heat_map import heat_map
from probebench.stats import discordant, paired_interval

BLOCK_OUTPUT = "rc2"

LONGEST = 100
"""Characters of a line: longer ones are hard to read."""

SITES_EXPLAINED = (
    "Sites, in the order in which data passes them: ln1, mha, rc1 (attention: its input, its output, the sum with its "
    "input) and ln2, fc1, act, fc2, rc2 (feed-forward network: its input, its hidden layer before and after the "
    "nonlinearity, its output, the output of the block)."
)

NEXT = (
    ("probebench init DIR", "a project for your own model and images, with baselines and a CI workflow"),
    ("probebench recommend --model glyphvit --data FOLDER", "the best place to read features for a folder of images"),
    ("pytest benchmarks/", "in a clone of the repository: all embedded datasets, all layers, and the random control"),
)


def render(result: SweepResult, *, width: int | None, color: bool, ascii_only: bool) -> str:
    """The result of the demo as the text to write to a terminal.

    Args:
        result: of a sweep with taps at several sites, at ``rc2`` and at ``output`` among them
        width, color, ascii_only: see `probebench.reporting.terminal.console.OutputStyle`
    """
    shift = SHIFT_WORDS[result.dataset.shift]
    title = f"{result.model.name} on {result.dataset.name}{', ' if shift else ''}{shift}"
    facts = {"pretraining": result.model.pretraining, "dataset": result.dataset.note}
    cells = {(tap.layer, tap.site): found.accuracy for tap, found in result.taps.items() if isinstance(tap.layer, int)}
    parts: list[RenderableType] = [
        Text(title, style="bold"),
        *(Text(f"{name}: {fact}") for name, fact in facts.items() if fact),
        Text(f"Accuracy of a linear probe at each layer and site, in % of {counted(result.n_test, 'test image')}:\n"),
        heat_map("", cells, width),
        *(Text(f"\n{text}") for text in (SITES_EXPLAINED, *sentences(result))),
        Text("\nIn brackets: 95% intervals, of a difference that of the paired comparison."),
        Text("\nNothing was written: no baselines, no record, no cached features.\n"),
        *next_steps(NEXT),
    ]
    return render_text(parts, width=min(width or LONGEST, LONGEST), color=color, ascii_only=ascii_only).rstrip("\n")


def sentences(result: SweepResult) -> list[str]:
    """Three statements on the result: on depth, on the site, and on what it does not show."""
    return [_on_depth(result), _on_site(result), _on_limits(result)]


def _on_depth(result: SweepResult) -> str:
    chosen, output = _choose(result, *SITES, *REFERENCES), result.taps[Tap(OUTPUT, OUTPUT)]
    if chosen is output:
        return (
            f"Depth: no place inside the network beats output, what the network returns: {_score(output)} of the test "
            "images are right. The place was chosen on held-out training images."
        )
    where = f", in layer {chosen.tap.layer} of {result.model.depth}" if isinstance(chosen.tap.layer, int) else ""
    return (
        f"Depth: held-out training images choose {chosen.tap.id}{where}. There {_score(chosen)} of the test images "
        f"are right, and {_score(output)} at output, what the network returns: {_compare(output, chosen)}."
    )


def _on_site(result: SweepResult) -> str:
    winner, block = _choose(result, *SITES), _choose(result, BLOCK_OUTPUT)
    sites = len({tap.site for tap in result.taps if isinstance(tap.layer, int)})
    if winner is block:
        return (
            f"Site: of {sites} sites, {BLOCK_OUTPUT}, the output of a block, wins, at {block.tap.id}: {_score(block)}."
        )
    return (
        f"Site: of {sites} sites, {winner.tap.site} wins, at {winner.tap.id}. The best output of a block, "
        f"{block.tap.id}, has {_score(block)}: {_compare(block, winner)}. {_on_width(winner, block)}"
    )


def _on_width(winner: TapResult, block: TapResult) -> str:
    """The part of the winner's lead that it owes to its width."""
    if winner.width_matched is None:
        return f"Both have {counted(winner.width, 'feature')}, so width is no part of it."
    lead = winner.accuracy - block.accuracy
    left = winner.width_matched.accuracy.value - block.accuracy
    if lead <= 0:
        part = "Width did not help"
    elif left >= lead:
        part = "Width is no part of it"
    else:
        part = "Width is a part of it" if left > 0 else "Width is all of it"
    return (
        f"{part}: {winner.tap.id} has {winner.width} features and {block.tap.id} {block.width}; projected to "
        f"{winner.width_matched.width}, {signed(left)} of the {signed(lead)} points are left."
    )


def _on_limits(result: SweepResult) -> str:
    layers = {tap.layer for tap in result.taps if isinstance(tap.layer, int)}
    skipped = "" if len(layers) == result.model.depth else f", at {len(layers)} of its {result.model.depth} layers"
    width = next(found.width for tap, found in result.taps.items() if tap.site == BLOCK_OUTPUT)
    return (
        f"Limits: this is one small network ({counted(result.model.depth, 'layer')} of {width} features) on one "
        f"dataset{skipped}. There was no random control: how much of this an untrained network reaches as well, the "
        "demo cannot say. Other networks and other images may give another answer."
    )


def _choose(result: SweepResult, *sites: str) -> TapResult:
    """The best tap at some sites, on held-out training images."""
    case = choose(case for case in result.cases if case["site"] in sites)
    return result.taps[tap_of(case)]


def _score(found: TapResult) -> str:
    return f"{percent(found.accuracy)}% ({interval(found.ci95)})"


def _compare(before: TapResult, now: TapResult) -> str:
    """The gain, with the interval of a paired comparison on the test images."""
    lost, gained = discordant(before.correct, now.correct)
    low, high = paired_interval(lost, gained, now.correct.shape[-1])
    change = now.accuracy - before.accuracy
    text = f"{signed(change)} points ({signed(low)} to {signed(high)})"
    if low > 0:
        return f"a gain of {text}"
    return f"a loss of {text}" if high < 0 else f"{text}, which may be chance"
