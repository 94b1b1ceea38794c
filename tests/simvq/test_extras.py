"""The package alone trains a quantizer; what an extra brings is named where it is missing."""

import ast
import sys

import pytest
from helpers.installed import absent, closure, declared, python
from helpers.pages import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from common.extras import EXTRAS

OWN = ("common", "stage1_tokenizer", "stage2_prior", "pipelines", "simvq")
DISTRIBUTIONS = {"PIL": "pillow", "sklearn": "scikit-learn"}
"""Where a module is not called as its distribution."""
TRAINS = """
import torch
from torch import nn
from simvq import SimVQ

torch.manual_seed(0)
encoder, decoder = nn.Conv2d(1, 8, 4, 4), nn.ConvTranspose2d(8, 1, 4, 4)
quantizer = SimVQ(codebook_size=64, code_dim=8)
optimizer = torch.optim.Adam(
    [*encoder.parameters(), *quantizer.parameters(), *decoder.parameters()], lr=1e-2
)
quantizer.attach(optimizer)
errors = []
for step in range(50):
    images = torch.randn(64, 1, 4, 4).repeat_interleave(2, -1).repeat_interleave(2, -2)
    latents, codes, loss = quantizer(encoder(images), channels_first=True)
    error = (decoder(latents) - images).square().mean()
    (error + loss).backward()
    optimizer.step()
    optimizer.zero_grad()
    errors.append(float(error))
print(errors[0], errors[-1], len(codes.unique()))
"""


def tops(path) -> set[str]:
    """The modules of other projects that a file imports or names as `Extra`, by their first names."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Extra":
            names.add(ast.literal_eval(node.args[0]))
    return {name.partition(".")[0] for name in names} - {*OWN, *sys.stdlib_module_names}


def test_every_module_that_is_imported_is_declared() -> None:
    core = {canonicalize_name(Requirement(text).name) for text in declared()}
    allowed = {module for modules in EXTRAS.values() for module in modules} | core
    for folder in OWN:
        for path in (ROOT / folder).rglob("*.py"):
            unknown = {name.replace("_", "-") for name in tops(path)} - {
                name.replace("_", "-") for name in allowed
            }
            assert unknown <= {"torch", "yaml"}, f"{path}: {unknown}"


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_has_the_modules_that_it_names(extra: str) -> None:
    own = {canonicalize_name(Requirement(text).name) for text in declared(extra)}
    core = {canonicalize_name(Requirement(text).name) for text in declared()}
    named = {canonicalize_name(DISTRIBUTIONS.get(m, m)) for m in EXTRAS[extra]}
    assert named == own - core


def test_the_package_alone_is_light() -> None:
    """Beside torch and what it needs: less than thirty distributions, and none of the heavy ones."""
    beside = closure(declared()) - closure(["torch"])
    assert {"einops", "safetensors", "huggingface-hub"} <= beside and len(beside) < 30, beside
    heavy = {"transformers", "datasets", "torchvision", "torchaudio", "scipy", "pandas", "PIL"}
    assert heavy <= absent()


@pytest.mark.slow
def test_the_package_alone_trains_simvq_in_an_autoencoder_of_ones_own() -> None:
    done = python(TRAINS)
    assert done.returncode == 0, done.stderr
    first, last, used = map(float, done.stdout.split())
    assert last < 0.7 * first and used > 32


@pytest.mark.slow
def test_the_package_alone_encodes_and_decodes(tmp_path) -> None:
    code = f"""
import torch
from simvq import ImageTokenizer, SpeechTokenizer
from stage1_tokenizer import ImageTokenizerConfig
tokenizer = ImageTokenizer(ImageTokenizerConfig(image_size=16, width=32)).eval()
tokenizer.save_pretrained({str(tmp_path / "model")!r})
tokenizer = ImageTokenizer.from_pretrained({str(tmp_path / "model")!r})
images = torch.zeros(1, 3, 16, 16)
assert tokenizer.decode(tokenizer.encode(images)).shape == images.shape
"""
    done = python(code)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "extras", "words"),
    [
        ("from simvq import SpeechGenerationPipeline", (), "is not installed: pip install"),
        ("from simvq import ImageGenerationPipeline", (), "'simvq-pipeline[train]'"),
        ("from pipelines.cli import main; main(['run', 'configs/smoke.yaml'])", (), "[train]"),
        (
            "from pipelines.cli import main; main(['run', 'configs/spoken_digits.yaml', 'run_dir=/nowhere'])",
            ("train",),
            "'simvq-pipeline[audio]'",
        ),
    ],
)
def test_what_is_missing_is_one_sentence_that_names_the_extra(
    code: str, extras: tuple[str, ...], words: str
) -> None:
    done = python(code, *extras)
    assert done.returncode
    assert words in done.stderr.strip().splitlines()[-1]


@pytest.mark.slow
def test_images_need_no_package_for_speech(tmp_path) -> None:
    command = f"main(['run', 'configs/smoke.yaml', 'run_dir={tmp_path}/smoke'])"
    done = python(f"from pipelines.cli import main; {command}", "train")
    assert done.returncode == 0, done.stderr


def test_recipes_are_listed_by_the_package_alone() -> None:
    done = python("from pipelines.cli import main; main(['recipes'])")
    assert done.returncode == 0 and not done.stderr and "digits" in done.stdout
