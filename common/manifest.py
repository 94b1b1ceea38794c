"""Folders that are filled piece by piece: a manifest says for what, and whether they are complete."""

import json
from pathlib import Path
from typing import Any

from common.config import differences
from common.files import hashed, read_json, write_text

OTHERS = {
    "encoding_sha256": "tokenizer",
    "tokenizer_sha256": "tokenizer",
    "prior_sha256": "prior",
    "item_fingerprints": "data set",
}
"""What a hash in a manifest is of."""


def start_manifest(path: Path, request: dict[str, Any], parts: str) -> dict[str, Any]:
    """The manifest at `path`; where there is none, a new one of this request, not complete.

    Raises ValueError when the folder was started for another request, and when files match the pattern `parts` but
    no manifest says what they belong to. A key that only the manifest or only the request has is not compared: it
    comes from another version.
    """
    if not path.exists():
        if left := next(path.parent.glob(parts), None):
            raise ValueError(
                f"{left} is there without {path.name}, which would say what it is of: remove {path.parent}, or set out"
            )
        write_manifest(path, request | {"complete": False})
    manifest = read_json(path)
    for key, was, is_now in differences(manifest, request):
        if other := OTHERS.get(key.split(".")[0]):
            raise ValueError(
                f"{path.parent} was made of another {other} than there is now: set out to another folder, or remove "
                "that one"
            )
        raise ValueError(
            f"{path.parent} was made with {key}={was}, now it is {is_now}: set out to another folder, or "
            "remove that one"
        )
    return manifest


def write_manifest(path: Path, manifest: dict[str, Any]) -> None:
    """Writes the manifest as JSON, a key a line, atomically."""
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in hashed(manifest).items()]
    write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")
