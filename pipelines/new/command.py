"""new: a recipe that fits a data set and the minutes given, every choice explained in a comment."""

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from common.bounds import Positive
from common.config import load_config
from pipelines.new.facts import ImageFacts, SpeechFacts, look
from pipelines.new.images import images
from pipelines.new.speech import speech
from pipelines.new.steps import with_steps


@dataclass(frozen=True, kw_only=True)
class NewConfig:
    """What new reads beside the data."""

    minutes: Positive = 30.0
    """What training may take, on this machine."""


def new(data: str, options: Sequence[str]) -> str:
    """The recipe, as YAML. Raises ValueError for data that can't be read and for another option than minutes."""
    minutes = load_config(NewConfig, None, options).minutes
    with contextlib.redirect_stdout(sys.stderr):  # standard output is for the recipe alone
        facts = look(data)
        return with_steps(recipe_template(facts, minutes), facts, minutes)


def recipe_template(facts: ImageFacts | SpeechFacts, minutes: float) -> str:
    """The recipe for so many minutes, in which `$tokenizer_steps`, `$prior_steps` and what goes with them are still to be filled in."""
    return images(facts, minutes) if isinstance(facts, ImageFacts) else speech(facts, minutes)
