"""A headless Chromium, for whatever looks at reports as a reader does."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--window-size=1280,900"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"),
)


class Missing(Exception):
    """There is no Chromium here, or nothing to drive it with."""


def chromium(profile: Path) -> Any:
    """Start a browser that keeps a log of its console and of its requests.

    Args:
        profile: an empty directory

    Raises:
        Missing: saying what to install
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
    # With its path given, selenium does not look for a driver on the network.
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
