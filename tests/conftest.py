"""What every test stands on: no network, no display, few threads, and the two things a machine may lack.

The environment is set before any test module is imported, because the libraries read it at import.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "DAFT_PROGRESS_BAR": "0",
    "DAFT_ANALYTICS_ENABLED": "0",
    "DO_NOT_TRACK": "1",
    "MPLBACKEND": "Agg",
}
# torch takes its number of threads from here; more than two slow tiny models down.
os.environ.setdefault("OMP_NUM_THREADS", "2")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite golden files; review the diff")


@pytest.fixture(scope="session")
def update_golden(request: pytest.FixtureRequest) -> bool:
    """True where golden files are to be rewritten instead of compared."""
    return bool(request.config.getoption("--update-golden"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The real samples: BEHAVIOR_LLAVA_SHARED, or `shared` beside the checkout; skips without them."""
    folder = Path(os.environ.get("BEHAVIOR_LLAVA_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(
            "no folder of real samples: set BEHAVIOR_LLAVA_SHARED or put `shared` beside the checkout"
        )
    return folder


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's executable; without one a test is skipped with the reason, and fails under CI."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    reason = "no chromium on the PATH (Debian: apt-get install chromium)"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
