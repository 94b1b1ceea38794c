"""The sizes of networks: counted as by hand, and the page's table is what the command prints."""

import pytest
import torch
from helpers.pages import DOCS
from torch import nn

from benchmarks.sizes import one_step, sizes, table, trained_bytes
from benchmarks.traces import recipes


def test_a_step_is_counted_as_by_hand() -> None:
    """30 x 4 numbers through 4 x 5 weights: two products, for the input needs no gradient; the input is kept."""
    layer, x = nn.Linear(4, 5, bias=False, device="meta"), torch.rand(30, 4, device="meta")
    held, operations = one_step(lambda: [layer(x).sum()])
    assert (held, operations) == (4 * 30 * 4, 2 * (2 * 30 * 4 * 5))
    assert trained_bytes(layer) == 4 * (4 * 4 * 5)
    layer.requires_grad_(False)
    assert trained_bytes(layer) == 4 * 4 * 5


def test_the_digits_have_their_sizes() -> None:
    """A transformer's forward takes two operations a weight and code, attention and embeddings aside."""
    tokenizer, prior = sizes(recipes()["digits"])
    assert tokenizer.batch == prior.batch == 64
    assert prior.forward == pytest.approx(2 * prior.parameters * 16, rel=0.1)
    assert 2.5 < prior.training / prior.forward < 3.2
    assert 2.0 < tokenizer.training / tokenizer.forward < 3.2


@pytest.mark.slow
def test_the_table_of_the_page_is_what_the_command_prints() -> None:
    assert table() in (DOCS / "sizes.md").read_text()
