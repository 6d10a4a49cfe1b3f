"""Puts the trainer's modules on the path, and knows where the golden files are."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))


@pytest.fixture(scope="session")
def golden() -> Path:
    """A folder made by `tests/golden/make_taipan_fixtures.py`."""
    folder = os.environ.get("TAIPAN_GOLDEN")
    if folder is None:
        pytest.skip("TAIPAN_GOLDEN is not set; `cargo xtask golden --out DIR` makes the golden files")
    return Path(folder)
