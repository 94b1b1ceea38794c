"""Python with the packages of some extras alone: what others are installed can't be imported."""

import importlib.metadata as metadata
import subprocess
import sys
import tomllib

from helpers.pages import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
HOOK = """
import re, sys
class Without:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, *where):
        if name.partition(".")[0] not in {absent!r}:
            return self.finder.find_spec(name, *where)
    def find_distributions(self, *context):
        for distribution in self.finder.find_distributions(*context):
            if re.sub("[-_.]+", "-", distribution.name).lower() in {kept!r}:
                yield distribution
    def __getattr__(self, name):
        return getattr(self.finder, name)
sys.meta_path[:] = [Without(f) if hasattr(f, "find_distributions") else f for f in sys.meta_path]
"""


def declared(*extras: str) -> list[str]:
    """The requirements that pyproject.toml has for the package with these extras."""
    return PROJECT["dependencies"] + [
        one for extra in extras for one in PROJECT["optional-dependencies"][extra]
    ]


def closure(requirements: list[str]) -> set[str]:
    """The distributions that come with these requirements, by what those installed here say of their own."""
    found: set[str] = set()
    waiting = [(Requirement(text), "") for text in requirements]
    while waiting:
        requirement, extra = waiting.pop()
        name = canonicalize_name(requirement.name)
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        if name in found and not requirement.extras:
            continue
        found.add(name)
        try:
            needs = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        for own in (*requirement.extras, ""):
            waiting += [(Requirement(text), own) for text in needs]
    return found


def absent(*extras: str) -> set[str]:
    """The modules that are installed here and would not be with the package and these extras alone."""
    kept = closure(declared(*extras))
    return {
        module
        for module, distributions in metadata.packages_distributions().items()
        if not kept & set(map(canonicalize_name, distributions))
    } - {"simvq", "common", "pipelines", "stage1_tokenizer", "stage2_prior"}


def python(code: str, *extras: str) -> subprocess.CompletedProcess[str]:
    """What Python says to `code` with the package and these extras alone."""
    kept = closure(declared(*extras)) | {canonicalize_name(PROJECT["name"])}
    program = HOOK.format(absent=absent(*extras), kept=kept) + code
    return subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
