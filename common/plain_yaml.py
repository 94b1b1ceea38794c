"""YAML that reads only plainly written numbers as numbers: 0100 and 12:30 stay text (in YAML 1.1 they are 64 and 750).

10_000 is ten thousand, as in YAML 1.1 and in Python.
"""

import re
from typing import IO, Any

import yaml
from omegaconf._yaml import get_yaml_loader

WHOLE = re.compile(r"(?:0|-?[1-9][0-9]*|-?[1-9][0-9]{0,2}(?:_[0-9]{3})+)$")
FRACTION = re.compile(
    r"""(?:[-+]?[0-9]+\.[0-9]*(?:[eE][-+]?[0-9]+)?
        |[-+]?[0-9]+[eE][-+]?[0-9]+
        |\.[0-9]+(?:[eE][-+][0-9]+)?
        |[-+]?\.(?:inf|Inf|INF)
        |\.(?:nan|NaN|NAN))$""",
    re.VERBOSE,
)
NUMBERS = {"tag:yaml.org,2002:int": WHOLE, "tag:yaml.org,2002:float": FRACTION}
"""What is taken for a number, by YAML's name of its type."""


def load_yaml(text: str | IO[str]) -> Any:
    """The containers, texts and numbers that a text or an open file holds. Raises yaml.YAMLError."""
    loader = get_yaml_loader()  # OmegaConf's, which refuses a key that is there twice
    loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in NUMBERS]
        for first, resolvers in loader.yaml_implicit_resolvers.items()
    }
    for tag, pattern in NUMBERS.items():
        loader.add_implicit_resolver(tag, pattern, list("-+.0123456789"))
    return yaml.load(text, Loader=loader)
