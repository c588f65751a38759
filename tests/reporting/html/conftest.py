"""A headless Chromium for the tests that look at the page as a reader does; they skip where there is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from probebench.reporting import html
from tests.reporting.html.records import full
from tools.chromium import Missing, chromium


@pytest.fixture(scope="session")
def driver(tmp_path_factory):
    """One browser for the session, with a profile of its own."""
    try:
        browser = chromium(tmp_path_factory.mktemp("profile"))
    except Missing as missing:
        pytest.skip(str(missing))
    yield browser
    browser.quit()


class Page:
    """An open report: what a reader sees and does."""

    def __init__(self, driver):
        self.driver = driver

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def all(self, selector):
        return self.driver.find_elements("css selector", selector)

    def one(self, selector):
        return self.driver.find_element("css selector", selector)

    def texts(self, selector):
        return self.run("return [...document.querySelectorAll(arguments[0])].map(e => e.innerText.trim())", selector)

    def column(self, key):
        """What the leaderboard shows of a column."""
        return self.texts(f"#board tbody td.{key}")

    def fill(self, name, value):
        """Type or choose in a filter."""
        field = self.one(f".filters [name={name}]")
        if field.tag_name == "select":
            self.run(
                "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input', {bubbles: true}))",
                field,
                value,
            )
        else:
            field.clear()
            field.send_keys(value)
        self.settle()

    def tip(self):
        """The text of the tip; None where it is hidden."""
        return self.run("const tip = document.getElementById('tip'); return tip.hidden ? null : tip.innerText")

    def focused(self):
        return self.driver.switch_to.active_element

    def press(self, *keys):
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()
        self.settle()

    def settle(self):
        """Wait for what an event has put off to a later turn: the browser answers as soon as it has the event."""
        self.driver.execute_async_script("const done = arguments[0]; setTimeout(() => setTimeout(done))")

    def wait_until(self, condition):
        """Wait for what the browser does in its own time; fails after a minute."""
        from selenium.webdriver.support.wait import WebDriverWait

        WebDriverWait(self.driver, 60, poll_frequency=0.02).until(lambda _: self.run(f"return {condition}"), condition)

    def click(self, element):
        """As a reader does, who has it well inside of the window."""
        self.run("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
        element.click()
        self.settle()

    def point_at(self, element, x=0, y=0):
        """Move the pointer to an element, x and y off its middle."""
        from selenium.webdriver import ActionChains

        self.run("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
        ActionChains(self.driver).move_to_element_with_offset(element, x, y).perform()

    def screen(self, width, height=844, mobile=True):
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def media(self, kind="", **features):
        named = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": kind, "features": named})

    def requests(self):
        """Addresses that reports asked for since this was last called; not what the browser's own first tab loads."""
        entries = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [entry["params"] for entry in entries if entry["method"] == "Network.requestWillBeSent"]
        return {each["request"]["url"].partition("#")[0] for each in sent if each["documentURL"].startswith("file:")}


@pytest.fixture(scope="session")
def full_report(tmp_path_factory) -> Path:
    """The report of `full()`, written once: whoever opens it does not change the file."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    html.write(full(), path, "run.json")
    return path


@pytest.fixture
def show(driver, tmp_path: Path):
    """Open a report, of a record or written; what it asked for and complained of is checked when the test ends."""
    page = Page(driver)
    path = tmp_path / "report.html"

    def opened(report, fragment=""):
        nonlocal path
        if isinstance(report, Path):
            path = report
        else:
            html.write(report, path, "run.json")
        driver.get_log("browser"), driver.get_log("performance")
        driver.get(path.as_uri() + fragment)
        # Scrolling at once, or clicks would miss what still moves.
        page.run("document.documentElement.style.scrollBehavior = 'auto'")
        return page

    yield opened
    complaints = driver.get_log("browser")
    requested = page.requests()
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    page.media()
    driver.get("about:blank")
    assert complaints == []
    assert {path.as_uri()} <= requested <= {path.as_uri(), "data:,"}
