"""The page in a real browser, which must ask for nothing and complain of nothing (see `show` in conftest.py)."""

from __future__ import annotations

import re

import pytest

from tests.records.pools import pooled
from tests.reporting.html.dom import parse
from tests.reporting.html.records import full, large
from tests.reporting.html.test_page import HOSTILE, hostile


@pytest.fixture
def page(show, full_report):
    return show(full_report)


def numbers(texts):
    return [float(text) for text in texts]


def sort_button(page, key):
    return page.one(f"#board th[data-key={key}] button")


def test_it_opens_as_python_wrote_it(page, full_report):
    assert page.driver.title == "probebench: 1 regressed, 1 improved, 1 sweep failed"
    # The script has made the first rows anew, and must write every number as Python does.
    python = parse(full_report.read_text(encoding="utf-8")).one("table", id="board").table()
    cells = "return [...document.querySelectorAll('#board tbody tr')].map(r => [...r.cells].map(c => c.textContent))"
    assert page.run(cells) == python


def test_headings_sort_both_ways(page):
    button = sort_button(page, "accuracy")
    heading = page.one("#board th[data-key=accuracy]")
    assert heading.get_attribute("aria-sort") is None
    page.click(button)
    assert heading.get_attribute("aria-sort") == "descending"
    found = numbers(page.column("accuracy"))
    assert found == sorted(found, reverse=True)
    assert found[0] == 83.5
    page.click(button)
    assert heading.get_attribute("aria-sort") == "ascending"
    found = numbers(page.column("accuracy"))
    assert found == sorted(found)
    page.click(sort_button(page, "tap"))
    assert heading.get_attribute("aria-sort") is None
    assert page.column("tap")[:6] == ["embed"] * 5 + ["L01-ln1"]
    assert len(page.all("#board th[aria-sort]")) == 1


def test_what_has_no_value_comes_last_either_way(page):
    page.fill("model", "net_tuned")
    for _ in range(2):
        page.click(sort_button(page, "baseline"))
        page.click(page.one(".pager [name=next]"))
        assert page.column("baseline")[-1] == ""
        assert page.column("baseline").count("") == 1


def test_words_are_sorted_as_people_do(show):
    record = full()
    for entry in (*record["sweeps"], *record["cases"]):
        entry["model"] = {"net": "vit_10", "net_random": "vit_9", "net_tuned": "vit_b"}[entry["model"]]
    page = show(record)
    page.click(sort_button(page, "model"))
    assert page.column("model")[0] == "vit_9"
    page.click(sort_button(page, "model"))
    assert page.column("model")[0] == "vit_b"


@pytest.mark.parametrize(
    ("name", "value", "key", "expected", "count"),
    [
        ("model", "net_random", "model", {"net_random"}, 70),
        ("dataset", "hard", "dataset", {"hard"}, 70),
        ("layer", "3", "tap", {f"L03-{site}" for site in ["ln1", "mha", "rc1", "ln2", "fc1", "act", "fc2", "rc2"]}, 40),
        ("layer", "final", "tap", {"final"}, 5),
        ("layer", "output", "tap", {"output"}, 5),
        ("layer", "embed", "tap", {"embed"}, 5),
        ("site", "act", "tap", {f"L0{layer}-act" for layer in range(1, 5)}, 20),
        ("verdict", "regressed", "verdict", {"▼ regressed"}, 1),
        ("text", "L02-rc2 EASY", "tap", {"L02-rc2"}, 3),
        ("text", "improved", "verdict", {"▲ improved"}, 1),
    ],
)
def test_filters_leave_what_they_say(page, name, value, key, expected, count):
    page.fill(name, value)
    assert set(page.column(key)) == expected
    assert page.one(".found").text == f"{count} of 175 cases"


def test_taps_of_other_poolings_and_combinations_are_filtered_sorted_and_told(show):
    page = show(pooled(["clean"]).record)
    page.fill("text", ".cls")
    inner = {f"L0{layer}-{site}.cls" for layer in range(1, 7) for site in ("act", "rc2")}
    assert set(page.column("tap")) == inner | {"final.cls"}
    page.fill("text", "")
    options = page.texts(".filters [name=layer] option")
    assert options == ["all", "L01", "L02", "L03", "L04", "L05", "L06", "final", "output", "pair"]
    page.fill("layer", "pair")
    assert page.column("tap") == ["pair"]
    page.fill("layer", "2")
    page.click(sort_button(page, "tap"))
    assert page.column("tap") == ["L02-act", "L02-act.cls", "L02-rc2", "L02-rc2.cls"]
    cell = page.run("return document.querySelector('#sweep-0 .map td.chosen')")
    page.point_at(cell)
    assert page.tip().startswith("pair: 75.0% [")
    page.point_at(page.run("return document.querySelector('#sweep-0 .map').rows[1].cells[1]"))
    assert page.tip().startswith("L01-act: 44.4% [")


def test_filters_work_together_and_are_reset(page):
    page.fill("model", "net")
    page.fill("site", "act")
    page.fill("text", "hard")
    page.click(sort_button(page, "accuracy"))
    assert len(page.column("tap")) == 4
    page.fill("text", "nothing like it")
    assert page.column("tap") == []
    assert page.one(".pager .position").text == "no case"
    page.click(page.one(".filters [type=reset]"))
    page.wait_until("document.querySelector('.found').innerText === '175 cases'")
    assert page.column("rank")[0] == "1"
    assert not page.all("#board th[aria-sort]")


def test_pages_turn(page):
    previous, next_ = page.one(".pager [name=previous]"), page.one(".pager [name=next]")
    assert page.one(".pager .position").text == "1–25 of 175"
    assert not previous.is_enabled()
    seen = page.column("tap")
    for _ in range(6):
        page.click(next_)
        seen += page.column("tap")
    assert page.one(".pager .position").text == "151–175 of 175"
    assert not next_.is_enabled()
    assert len(seen) == 175
    page.run("const s = document.querySelector('.pager select'); s.value = '200'; s.dispatchEvent(new Event('change'))")
    assert len(page.column("tap")) == 175


def test_more_numbers_are_shown_on_request(page):
    nll = page.one("#board th[data-key=nll]")
    assert not nll.is_displayed()
    page.click(page.one(".filters [name=all]"))
    assert nll.is_displayed()
    assert page.column("nll")[0] == f"{1.2345 - 0.835:.3g}"


def test_a_tile_leads_to_its_cases(page):
    page.click(page.one(".tiles a.improved"))
    page.wait_until("document.querySelector('.found').innerText === '1 of 175 cases'")
    assert page.column("tap") == ["L04-act"]
    assert page.run("return document.querySelector('#leaderboard').getBoundingClientRect().top") < 200


def test_a_tap_leads_to_its_map_which_opens(page):
    assert not page.one("#sweep-3").is_displayed()
    page.fill("text", "net_random hard")
    page.click(page.one("#board tbody a"))
    page.wait_until("document.activeElement.matches('summary')")
    number = page.run("return location.hash")
    assert page.one(f"{number} h4").is_displayed()
    assert page.one(f"{number} h4").text == "net_random"
    assert page.one(f"{number} .map").is_displayed()
    assert page.focused().tag_name == "summary"


def test_an_address_with_a_fragment_opens_it(show, full_report):
    page = show(full_report, "#sweep-1")
    assert page.one("#sweep-1 .map").is_displayed()


def test_cells_tell_their_numbers_under_the_pointer(page):
    cell = page.run("return document.querySelector('#sweep-0 .map').rows[3].cells[8]")  # layer 2, rc2
    page.point_at(cell)
    assert page.tip() == "L02-rc2: 54.9% [51.8–58.0]\n-14.1 over output\nbaseline 60.0%, -5.1\nregressed"
    page.point_at(page.one("#depth-title"))
    assert page.tip() is None


def test_cells_are_reached_by_arrow_keys(page):
    from selenium.webdriver.common.keys import Keys

    page.run("document.querySelector('#sweep-0 .map td.chosen').focus()")
    assert page.tip().startswith("L03-act: 81.5%")
    for key, expected in [
        (Keys.ARROW_RIGHT, "L03-fc2"),
        (Keys.ARROW_DOWN, "L04-fc2"),
        (Keys.ARROW_DOWN, "final"),
        (Keys.ARROW_UP, "L04-ln1"),
        (Keys.END, "L04-rc2"),
        (Keys.HOME, "L04-ln1"),
        (Keys.ARROW_LEFT, "L04-ln1"),
    ]:
        page.press(key)
        assert page.tip().startswith(f"{expected}: "), expected
        assert page.focused().get_attribute("aria-describedby") == "tip"
    assert len(page.all("#sweep-0 .map [tabindex]")) == 1
    page.press(Keys.ESCAPE)
    assert page.tip() is None


def test_curves_tell_all_values_of_the_nearest_layer(page):
    chart = page.one("#sweep-0 .lines svg.chart")
    width = page.run("return arguments[0].getBoundingClientRect().width", chart)
    frame = {side: float(chart.get_attribute(f"data-{side}")) for side in ("left", "right")}
    middle = frame["left"] + (frame["right"] - frame["left"]) * 2 / 3  # layer 3 of 4
    page.point_at(chart, round(width * (middle / 560 - 0.5)) + 5, 0)
    lines = page.tip().splitlines()
    assert lines[0] == "layer 3 of 4"
    assert lines[1].split() == ["act", "81.5", "[79.0–83.8]"]
    assert len(lines) == 9
    assert page.all("#sweep-0 .lines .cross")
    page.point_at(page.one("#depth-title"))
    assert page.tip() is None
    assert not page.all("#sweep-0 .lines .cross")


def test_curves_are_read_by_arrow_keys(page):
    from selenium.webdriver.common.keys import Keys

    page.run("document.querySelector('#dataset-0 .choices input').focus()")
    page.press(Keys.TAB, Keys.TAB, Keys.TAB)  # two more models, then the first chart
    assert page.focused().get_attribute("data-site") == "ln1"
    assert "ln1, 50% deep" in page.tip()
    page.press(Keys.ARROW_RIGHT)
    lines = page.tip().splitlines()
    assert lines[0] == "ln1, 75% deep"
    assert [line.split()[:3] for line in lines[1:]] == [
        ["net_tuned", "L03", "62.0"],
        ["net", "L03", "60.0"],
        ["net_random", "L03", "20.0"],
    ]
    page.press(Keys.END)
    assert "100% deep" in page.tip()


def test_models_and_sites_are_taken_off_their_charts(page):
    tuned = page.all("#dataset-0 .choices input")[2]
    drawn = ".facets svg[data-site=act] .series:not([hidden])"
    assert len(page.all(f"#dataset-0 {drawn}")) == 3
    page.click(tuned)
    assert [each.get_attribute("data-name") for each in page.all(f"#dataset-0 {drawn}")] == ["net", "net_random"]
    button = page.one("#sweep-0 .key button[data-name=act]")
    page.click(button)
    assert button.get_attribute("aria-pressed") == "false"
    assert not page.one("#sweep-0 .lines .series[data-name=act]").is_displayed()


def test_marks_of_the_shift_plot_tell_their_dataset(page):
    page.point_at(page.one("#shift .point"))
    assert page.tip() == "easy\nL03-act: +12.5 points over output\ndistance 0.012 ± 0.004"


def test_the_keyboard_reaches_everything_in_order(page):
    from selenium.webdriver.common.keys import Keys

    page.press(Keys.TAB)
    skip = page.focused()
    assert skip.text == "Skip to the report"
    assert page.run("return arguments[0].getBoundingClientRect().left", skip) >= 0
    page.press(Keys.ENTER)
    page.wait_until("document.activeElement.id === 'main'")  # A browser follows a link after the key, not with it.
    page.press(Keys.TAB)
    assert page.run("return document.activeElement.closest('.tiles') !== null")
    # The page itself notes where each key led, which takes fewer messages than to ask after each.
    page.run(
        "window.seen = [];"
        "addEventListener('keyup', () => seen.push(document.activeElement.closest('section')?.id ?? 'none'))"
    )
    seen = []
    while "provenance" not in seen and len(seen) < 200:
        page.press(*[Keys.TAB] * 10)
        seen = page.run("return seen")
    order = list(dict.fromkeys(seen[: seen.index("provenance") + 1]))
    assert order == ["overview", "leaderboard", "depth", "shift", "changes", "selection", "controls", "provenance"]


def test_sorting_works_from_the_keyboard(page):
    from selenium.webdriver.common.keys import Keys

    page.run("document.querySelector('#board th[data-key=output] button').focus()")
    page.press(Keys.ENTER)
    found = numbers(page.column("output"))
    assert found == sorted(found, reverse=True)
    assert page.focused().text.startswith("vs output")
    outline = page.run("return getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


def luminance(color):
    channels = [int(value) / 255 for value in re.findall(r"\d+", color)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_lines_have_contrast(page, scheme):
    """WCAG 2.2: 4.5 for text, 3 for graphics."""
    page.media(prefers_color_scheme=scheme)
    style = "const s = getComputedStyle(document.querySelector(arguments[0])); return s[arguments[1]]"
    background = page.run(style, "body", "backgroundColor")
    assert (luminance(background) < 0.1) == (scheme == "dark")
    for selector in ("body", ".legend", "a[href='#sweep-0']", "#board td.interval", ".verdict.regressed"):
        assert contrast(page.run(style, selector, "color"), background) >= 4.5, selector
    panel = page.run(style, ".tiles a", "backgroundColor")
    for verdict in ("regressed", "improved", "new", "not-comparable", "same"):
        assert contrast(page.run(style, f".tiles .verdict.{verdict}", "color"), panel) >= 4.5, verdict
    for mark in range(8):
        line = page.run(style, f"#sweep-0 .lines .k{mark} .line", "stroke")
        assert contrast(line, background) >= 3, mark
    for step in range(9):
        ink, fill = (page.run(style, f".ramp .q{step}", what) for what in ("color", "backgroundColor"))
        assert contrast(ink, fill) >= 4.5, step


def test_a_phone_has_no_sideways_scrolling_and_readable_rows(page):
    page.screen(360)
    page.run("document.querySelectorAll('details').forEach(e => e.open = true)")
    assert page.run("return document.documentElement.scrollWidth") <= 360
    row = page.one("#board tbody tr")
    box = page.run("const b = arguments[0].getBoundingClientRect(); return [b.left, b.right]", row)
    assert box[0] >= 0
    assert box[1] <= 360
    assert row.text.split()[:4] == ["easy", "net_tuned", "L03-act", "83.5"]
    label = "return getComputedStyle(document.querySelector('#board td.output'), '::before').content"
    assert page.run(label) == '"vs output "'
    grid = page.run("const b = document.querySelector('.map').getBoundingClientRect(); return b.right")
    assert grid <= 360
    for cell in page.all("#sweep-0 .map tbody tr:nth-child(3) td"):
        assert page.run("return arguments[0].scrollWidth <= arguments[0].clientWidth + 1", cell)
    page.click(sort_button(page, "accuracy"))
    assert page.one("#board th[data-key=accuracy]").get_attribute("aria-sort") == "descending"
    sizes = page.run(
        "return [...document.querySelectorAll('.chart text')].filter(e => e.checkVisibility())"
        ".map(e => parseFloat(getComputedStyle(e).fontSize) * e.ownerSVGElement.getBoundingClientRect().width"
        " / e.ownerSVGElement.viewBox.baseVal.width)"
    )
    assert min(sizes) >= 9


def test_a_finger_gets_the_numbers_too(page):
    page.screen(390)
    page.driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    try:
        chart = page.one("#dataset-0 .facets svg[data-site=act]")
        page.run("arguments[0].scrollIntoView({block: 'center'})", chart)
        x, y = page.run("const b = arguments[0].getBoundingClientRect(); return [b.right - 15, b.top + 40]", chart)
        for kind, points in (("touchStart", [{"x": x, "y": y}]), ("touchEnd", [])):
            page.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        assert "act, 100% deep" in page.tip()
        left, right = page.run(
            "const b = document.getElementById('tip').getBoundingClientRect(); return [b.left, b.right]"
        )
        assert left >= 0
        assert right <= 390
    finally:
        page.driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})


def test_in_print_controls_are_gone_and_paper_is_white(page):
    page.media("print", prefers_color_scheme="dark")
    shown = "return [...document.querySelectorAll(arguments[0])].some(e => e.checkVisibility())"
    for selector in ("nav", ".filters", ".pager", ".choices input", "[data-open]"):
        assert not page.run(shown, selector), selector
    for selector in ("#overview table", "#board", "#sweep-0 .map", "#sweep-0 svg", "#provenance dl"):
        assert page.run(shown, selector), selector
    assert page.run("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    wide = "return [...document.querySelectorAll('.scroll')].every(e => getComputedStyle(e).overflowX === 'visible')"
    assert page.run(wide)
    exact = page.run("return getComputedStyle(document.querySelector('.map tbody td')).printColorAdjust")
    assert exact == "exact"


def test_series_differ_in_dashes_and_marks_not_in_colour_alone(page):
    looks = page.run(
        "return [...document.querySelectorAll('#sweep-0 .lines .line')].map(e => { const s = getComputedStyle(e);"
        " return [s.markerMid, s.strokeDasharray] })"
    )
    assert len({mark for mark, _ in looks}) == 8
    assert "none" not in {mark for mark, _ in looks}
    pretrained, control = page.run(
        "return ['0', '2'].map(n => { const e = document.querySelector(`.facets [data-sweep='${n}'] .line`);"
        " const s = getComputedStyle(e); return [s.stroke, s.markerMid, s.strokeDasharray] })"
    )
    assert pretrained[0] == control[0]
    assert pretrained[1] != control[1]
    assert pretrained[2] != control[2]


def test_hostile_texts_stay_texts(show):
    page = show(hostile())
    assert page.run("return window.pwned") is None
    assert page.all("img") == []
    shown = page.run("return [...document.querySelectorAll('#board td.model')].map(e => e.textContent)")
    assert f"net{HOSTILE}" in shown
    page.point_at(page.one("#shift .point"))
    assert HOSTILE.replace("\u2028", "") in page.run("return tip.textContent").replace("\u2028", "")
    page.run("document.querySelectorAll('details').forEach(e => e.open = true)")
    page.run("document.querySelector('.facets svg.chart').focus()")
    assert page.run("return window.pwned") is None


def test_without_scripts_it_can_be_read(page):
    page.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        page.driver.refresh()
    finally:
        page.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert not page.one(".filters").is_displayed()
    assert not page.one(".pager").is_displayed()
    assert "first 25 of 175 cases" in page.one("noscript").text
    assert page.one("#board tbody tr").is_displayed()
    assert page.one("#sweep-0 .map").is_displayed()


def test_twenty_thousand_cases_are_filtered_sorted_and_turned(show):
    record = large(models=34, datasets=6)
    page = show(record)
    assert len(record["cases"]) == 20_196
    assert page.one(".found").text == "20,196 cases"
    # Only what is shown is in the document.
    assert len(page.all("#board tbody tr")) == 25
    page.fill("text", "vit_03 act dataset_05")
    assert page.one(".found").text == "24 of 20,196 cases"
    page.fill("text", "")
    page.click(sort_button(page, "accuracy"))
    best = max(case["accuracy"] for case in record["cases"])
    assert page.column("accuracy")[0] == f"{100 * best:.1f}"
    page.click(page.one(".pager [name=next]"))
    assert page.one(".pager .position").text == "26–50 of 20,196"
    page.fill("dataset", "dataset_02")
    assert page.one(".found").text == "3,366 of 20,196 cases"
