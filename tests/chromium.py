"""A headless Chromium for the tests of the status page."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")


def path_of_chromium() -> str | None:
    """Where this machine has one, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def chromium(wait_s: float = 30.0) -> Iterator[Browser]:
    """A browser, until it is left; what is expected of a page may take so long.

    The test is skipped where there is none: it is a package of the system, not of Python. Open for
    a module at most: as long as it is, its event loop counts as running in this thread.
    """
    path = path_of_chromium()
    if path is None:
        assert os.environ.get("CI") != "true", "Chromium is missing: install the package chromium"
        pytest.skip(f"no Chromium on this machine ({', '.join(NAMES)}): apt-get install chromium")
    # Chromium refuses to run its sandbox as root, which tests in a container are.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        expect.set_options(timeout=wait_s * 1000)
        yield browser
        browser.close()
