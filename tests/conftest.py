"""What several test files share."""

from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"

torch.set_num_threads(1)  # tiny networks; and threads that wait for each other stall a busy machine


@pytest.fixture
def shared() -> Path:
    """The folder with reference numbers and real data that lies beside the project."""
    if not SHARED.is_dir():
        pytest.skip("../shared, with the reference numbers, is not there")
    return SHARED
