"""The report as a person sees it: opened from disk in a real browser, without network."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def browser() -> str:
    """Path of a Chromium; without one tests are skipped, in CI they fail."""
    found = next(
        (path for name in ("chromium", "google-chrome", "chromium-browser") if (path := shutil.which(name))), None
    )
    if found is None:
        if os.environ.get("EVODIFF_REQUIRE_SERVERS") == "1":
            pytest.fail("Chromium is missing; install it (Debian: apt-get install chromium)")
        pytest.skip("Chromium is not installed")
    return found


def opened(browser: str, page: Path, profile: Path) -> tuple[str, str]:
    """The page's document after its scripts have run, and what the browser logged."""
    done = subprocess.run(
        [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--enable-logging=stderr",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--user-data-dir={profile}",
            "--window-size=1280,2000",
            "--virtual-time-budget=10000",
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=180,
        check=True,
    )
    return done.stdout, done.stderr


def test_the_report_draws_its_figures_without_an_error_on_the_console(
    browser: str, finished_run: Path, tmp_path: Path
) -> None:
    document, log = opened(browser, finished_run / "report" / "index.html", tmp_path)
    assert document.count("js-plotly-plot") >= 3
    assert document.count("main-svg") >= 3  # Plotly drew
    assert document.count("data:image/png;base64,") >= 2  # real and generated images
    assert "<svg" in document
    assert [line for line in log.splitlines() if "CONSOLE" in line] == []
