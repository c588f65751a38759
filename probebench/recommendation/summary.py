"""The text of a recommendation: a summary, a fact a line, and a table."""

from __future__ import annotations

from probebench._format import counted, percent
from probebench.catalog.taps import FINAL, OUTPUT, SEARCHED, TOKENS, Tap
from probebench.catalog.tasks import CLASSIFICATION, MULTILABEL
from probebench.recommendation.display import LABEL
from probebench.recommendation.findings import AttentiveComparison, Findings
from probebench.recommendation.screening import measured

SHOWN = 3
"""Number of cheaper taps in the text and in the table."""


def columns(found: Findings) -> tuple[str, ...]:
    """The titles of `rows`."""
    unit = " %" if found.task.percent else f" {found.task.score}"
    return ("tap", f"validation{unit}", f"test{unit}", "95% interval", "vs output", "tied", "saved %")


def lines(found: Findings) -> list[str]:
    """Return the summary, one fact per line, with a label of ten characters in all lines but the first."""
    task = found.task
    text = [
        f"{found.model} on {found.data}: {counted(found.n_train, 'training image')}, {found.n_validation:,} of them "
        f"for validation, {counted(found.n_test, 'test image')}, {_describe_classes(found)}",
        *([f"note      {found.note}"] if found.note else []),
        *(f"warning   {text}" for text in found.warnings),
        f"tap       {_describe_choice(found)} on validation ({task.text(found.validation)})",
        f"test      {task.text(found.test.value)}, 95% interval {task.interval(found.test.ci95)}",
        f"gain      {_describe_gain(found)}",
        f"tied      {_describe_ties(found)}",
        f"compute   {_describe_compute(found)}",
        *(f"{name.partition('.')[0]:<{LABEL}}{_describe_combination(found, name)}" for name in found.combinations),
        *([f"attentive {_describe_attentive(found, found.attentive)}"] if found.attentive else []),
        *([f"pooling   {_describe_poolings(found)}"] if found.poolings != ("mean",) else []),
        *([f"same      {_describe_same(found)}"] if found.same_as else []),
        f"how sure  {_describe_certainty(found)}",
    ]
    if found.budget is not None:
        text.append(f"budget    {_describe_budget(found, found.budget)}")
    return text


def rows(found: Findings) -> list[tuple[str, ...]]:
    """Return the recommended tap, some cheaper ones, concatenations and their best members, the attentive probe and
    the linear one at its tap, and references.

    Returns:
        cells of `columns`
    """
    task, last = found.task, ["", FINAL, OUTPUT]
    members = (each.best_member.id for each in found.combinations.values() if each.best_member is not None)
    named = {found.tap.id, FINAL, OUTPUT, *found.combinations, *members}
    if found.attentive is not None:
        named |= {found.attentive.tap.id, found.attentive.linear.id}
    shown = [row for row in found.table if row.tap in named]
    shown += [row for row in found.cheaper[-SHOWN:] if row not in shown]
    return [
        (
            row.tap,
            task.number(row.validation),
            task.number(row.test),
            task.interval((row.low, row.high)),
            task.change(row.gain),
            "yes" if row.tied else "no",
            percent(row.saved_compute),
        )
        for row in sorted(
            shown,
            key=lambda row: (
                row.tap != found.tap.id,
                last.index(row.tap) if row.tap in last else 0,
                -row.saved_compute,
            ),
        )
    ]


def _name_test(found: Findings) -> str:
    return "McNemar's exact test" if found.task is CLASSIFICATION else "the sign-flip test"


def _describe_classes(found: Findings) -> str:
    if found.task is CLASSIFICATION:
        return f"{len(found.classes)} classes"
    return counted(len(found.classes), "label" if found.task is MULTILABEL else "target")


def _describe_choice(found: Findings) -> str:
    name, attends = found.tap.id, found.attentive is not None
    if not (found.combinations or attends):
        return f"{name}, the best of {len(found.table)}"
    if found.tap.keeps_tokens:
        name += " (the attentive probe)"
    elif found.tap.is_combination:
        name += f" ({_describe_members(found, name)})"
    tried = [counted(len(found.table) - len(found.combinations) - attends, "tap")]
    tried += [counted(found.concatenations, "concatenation")] if found.combinations else []
    tried += ["1 attentive probe"] if attends else []
    return f"{name}, the best of {', '.join(tried[:-1])} and {tried[-1]}"


def _describe_members(found: Findings, name: str) -> str:
    if name not in SEARCHED:
        pooling = Tap.parse(name).pooling
        return f"the last four blocks, each behind the final norm{f', pooled by {pooling}' if pooling else ''}"
    return " + ".join(member.id for member in found.combinations[name].members)


def _describe_combination(found: Findings, name: str) -> str:
    """Compare a concatenation with its best member; whether it is better, by Holm's procedure over all of them."""
    each, at = found.combinations[name], {row.tap: row for row in found.table}
    one = at[name]
    text = f"{_describe_members(found, name)}: test {found.task.text(one.test)} with {one.width} features"
    if each.best_member is None or each.gain is None or each.p_value is None:
        return f"{text}; none of its members was probed alone"
    member, change = at[each.best_member.id], found.task.points(each.gain)
    how = _describe_difference(found, name, each.gain)
    return f"{text}, {how} than its best member {member.tap} with {member.width} ({change}, p = {each.p_value:.2g})"


def _describe_difference(found: Findings, name: str, gain: float) -> str:
    if name not in found.distinguishable:
        return "not significantly better"
    return "better" if gain > 0 else "worse"


def _describe_attentive(found: Findings, probe: AttentiveComparison) -> str:
    """Compare the attentive probe with the linear one; whether it is better, as for concatenations."""
    task, at, place = found.task, {row.tap: row for row in found.table}, probe.linear.plain.id
    one, linear = at[probe.tap.id], at[probe.linear.id]
    what = f"attention to the tokens of {place}"
    if probe.tap.pooling == TOKENS["patch_mean"]:
        what = f"attention to the tokens of the patches at {place}"
    if probe.instead_of is not None:
        what += f", the best single tap with tokens (the best of all, {probe.instead_of.id}, has none)"
    how = _describe_difference(found, probe.tap.id, probe.gain)
    return (
        f"{what}: validation {task.text(one.validation)}, test {task.text(one.test)}, {how} than the linear probe of "
        f"{linear.tap} (test {task.text(linear.test)}, {task.points(probe.gain)}, p = {probe.p_value:.2g}); "
        f"{probe.weights:,} weights instead of {probe.linear_weights:,}, and {probe.seconds:.0f} s to read tokens and "
        "to train"
    )


def _describe_gain(found: Findings) -> str:
    what = "what the network itself returns"
    if found.tap.layer == OUTPUT:
        return f"none: output is {what}"
    if found.same_as.get(OUTPUT) == found.tap.id:
        return f"none: {found.tap.id} is output, {what}, up to rounding"
    return f"{found.task.points(found.gain)} over output, {what} (p = {found.gain_p:.2g}, {_name_test(found)})"


def _describe_ties(found: Findings) -> str:
    others = len(found.table) - 1
    if not found.tied:
        return f"none of the {others} other taps"
    earliest = f"the earliest is {found.tied[0].id}" if found.tied[0] < found.tap else "none of them is earlier"
    tied = "is tied" if len(found.tied) == 1 else "are tied"
    return f"{len(found.tied)} of {counted(others, 'other tap')} {tied} with it on the test images; {earliest}"


def _describe_compute(found: Findings) -> str:
    if found.saved_compute == 0:
        own = "the tap needs the whole network"
    else:
        own = f"dropping what comes after the tap saves {percent(found.saved_compute)}% of the network's computation"
    if not found.cheaper:
        return f"{own}; no tied tap saves more"
    named = ", ".join(
        f"{row.tap} {percent(row.saved_compute)}% (test {found.task.text(row.test)})" for row in found.cheaper[-SHOWN:]
    )
    more = f" (up to {percent(found.cheaper[0].saved_compute)}%)" if len(found.cheaper) > SHOWN else ""
    return f"{own}; tied taps save more{more}: {named}"


def _describe_poolings(found: Findings) -> str:
    first, *others = found.poolings
    if not others:
        return f"{first}, of all taps but output"
    named = " and ".join(f"L01-act.{each}" for each in others)
    return f"{first}; taps with another have its name behind a dot, as in {named}"


def _describe_same(found: Findings) -> str:
    named = [f"{one} is {of}" for one, of in found.same_as.items()]
    more = f" and {len(named) - SHOWN} more" if len(named) > SHOWN else ""
    return f"{', '.join(named[:SHOWN])}{more}, up to rounding: fitted once"


def _describe_certainty(found: Findings) -> str:
    taps = counted(len(found.table) - 1, "tap")
    text = (
        f"ties by {_name_test(found)}{'s' if found.task is CLASSIFICATION else ''}, Holm's procedure at "
        f"{100 * found.level:g}% over {taps}, n = {found.n_test:,}. 'Tied' means not distinguishable"
    )
    if found.task is not CLASSIFICATION:
        return text
    return f"{text}: with this test set, differences below {counted(found.smallest, 'image')} cannot be detected"


def _describe_budget(found: Findings, budget: int) -> str:
    text = (
        f"a ridge probe screened {found.taps} taps on validation; only its best {budget}, "
        f"{'final, output and last4' if 'last4' in found.combinations else 'final and output'} had the full probe. "
    )
    known = measured(budget)
    if found.task is not CLASSIFICATION:
        return text + "How often that finds the best tap was measured for classes only"
    if known is None:
        return text + "How often so small a screening finds the best tap was not measured"
    size, often = known
    where = f"With a budget of {size}{' and one pooling' if len(found.poolings) > 1 else ''}"
    return text + (
        f"{where}, the screening kept the tap that the full probe chooses in {often.same} of {often.runs} measured "
        f"runs, and the chosen tap was that one or tied with it in {often.tied}"
    )
