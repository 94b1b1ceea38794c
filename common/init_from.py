"""Training that starts from a saved model: its weights in a new one of the same architecture."""

from collections.abc import Collection
from dataclasses import fields
from pathlib import Path
from typing import Literal

from common.config import differences, to_plain
from common.files import read_json
from common.hub import HubModel, local_folder


def source_folder(init_from: Path, part: Literal["tokenizer", "prior"]) -> Path:
    """The folder of the model that `init_from` names: a folder, a Hub repository, or this part of a pipeline.

    Raises ValueError for a folder without a model.
    """
    folder = local_folder(init_from)
    folder = folder / part if (folder / "pipeline.json").is_file() else folder
    made = "model" if part == "tokenizer" else "best"
    if not (folder / "config.json").is_file():
        raise ValueError(
            f"init_from={folder} has no config.json: set init_from to a saved model, as RUN/{part}/{made} is"
        )
    return folder


def start_from(model: HubModel, folder: Path, may_differ: Collection[str]) -> None:
    """Gives the model the weights of the saved one in `folder`.

    Raises ValueError, in one sentence, for a model of another kind, and for one of another architecture:
    all keys of its config but those that `may_differ` must be the same.
    """
    kind = type(model)
    known = {field.name for field in fields(kind.config_class)}
    if unknown := [key for key in read_json(folder / "config.json") if key not in known]:
        raise ValueError(
            f"init_from={folder} holds no {kind.__name__}, for its config.json has the key {unknown[0]!r}: set "
            "init_from to one"
        )
    saved = kind.from_pretrained(folder)
    found = differences(to_plain(saved.config), to_plain(model.config))
    if other := [f"{key}={was} (here {now})" for key, was, now in found if key not in may_differ]:
        raise ValueError(
            f"init_from={folder} has {', '.join(other)}: set the same here, or init_from to another model"
        )
    weights, own = saved.state_dict(), model.state_dict()
    for name, weight in weights.items():
        if weight.shape != own[name].shape:
            raise ValueError(
                f"init_from={folder} has {name} of shape {tuple(weight.shape)} (here {tuple(own[name].shape)}): "
                "the architecture ties it to the length of the sequences; set init_from to another model"
            )
    model.load_state_dict(weights)
