"""Start a headless Chromium to view reports as a reader does."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--window-size=1280,900"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"),
)


class Missing(Exception):
    """Chromium, its driver or selenium is not installed."""


def chromium(profile: Path) -> Any:
    """Start a browser that logs its console and its requests.

    Args:
        profile: an empty directory

    Raises:
        Missing: if a program is not installed; the message says which
    """
    try:
        from selenium import webdriver
    except ImportError:
        raise Missing("needs selenium: pip install selenium") from None
    browser, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if browser is None or driver is None:
        raise Missing("needs Chromium and its driver on the path (Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # With an explicit path, selenium does not download a driver.
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
