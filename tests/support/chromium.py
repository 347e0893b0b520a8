"""The system's Chromium, in which pages are tested."""

import shutil

import pytest


def chromium_path() -> str:
    """Its executable; without one, the test is skipped."""
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if executable is None:
        pytest.skip("no Chromium on the PATH (Debian: apt-get install chromium)")
    return executable
