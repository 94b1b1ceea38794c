"""The page for those who come from vector-quantize-pytorch names every argument of the classes that it maps."""

import inspect
import re

import pytest
import vector_quantize_pytorch
from helpers.pages import DOCS

PAGE = (DOCS / "from-vector-quantize-pytorch.md").read_text()
CLASSES = ("VectorQuantize", "SimVQ", "ResidualSimVQ", "ResidualVQ", "FSQ", "LFQ")


def mapped(name: str) -> set[str]:
    """The words in code in the left column of a class's table."""
    _, _, rest = PAGE.partition(f"| `{name}` there |")
    left = [line.split("|")[1] for line in rest.partition("\n\n")[0].splitlines()[2:]]
    return {word for cell in left for word in re.findall(r"`(\w+)`", cell)}


@pytest.mark.parametrize("name", CLASSES)
def test_every_argument_is_mapped(name: str) -> None:
    cls = getattr(vector_quantize_pytorch, name)
    arguments = {*inspect.signature(cls).parameters, *inspect.signature(cls.forward).parameters}
    assert arguments - {"self", "x", "z"} <= mapped(name)
