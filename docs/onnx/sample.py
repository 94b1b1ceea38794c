"""Samples of an exported pipeline with NumPy and onnxruntime alone: `python sample.py FOLDER CONDITION SEED [GUIDANCE]`.

The condition is the number of a label or a speaker, or of both, as in 3,0. The same condition, seed and guidance give
the same sample as the pipeline itself, but for ties within rounding.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime


def graph(folder, name):
    return onnxruntime.InferenceSession(folder / f"{name}.onnx", providers=["CPUExecutionProvider"])


def uniforms(seed, count):
    """What torch.rand gives for the pipeline's generator of this seed: 24 bits of each word of MT19937."""
    words = np.random.RandomState(seed * 1_000_003 % 2**32).bytes(4 * count)
    return (np.frombuffer(words, "<u4") % 2**24).astype(np.float32) / 2**24


def next_code(logits, about, place, random):
    """Where the cumulative distribution passes `random`; codes of other levels and an early end have no share."""
    levels, end = len(about["level_sizes"]), about["codebook_size"]
    logits[about["level_sizes"][place % levels] : end] = -np.inf
    if about["ends"] and (place < about["min_codes"] or place % levels):
        logits[end] = -np.inf
    cumulative = np.exp((logits - logits.max()).astype(np.float64)).cumsum()
    return int(np.searchsorted(cumulative, float(random) * cumulative[-1], side="right"))


def sample(folder, numbers, seed, guidance=1.0):
    """The codes of one sample; the second row of the batch, without condition, is for guidance."""
    about, prior = json.loads((folder / "pipeline.json").read_text()), graph(folder, "prior")
    condition = list(about["no_condition"])
    if "text" not in about["parts"]:  # of a prior by text, none
        for place, (size, number) in enumerate(zip(about["parts"].values(), numbers, strict=True)):
            if not 0 <= number < size:
                raise SystemExit(f"{number} is out of range: give 0 to {size - 1}")
            condition[place] += number - size
    layers, two, _, heads, _, size = about["past"]
    past, codes = np.zeros((layers, two, 2, heads, 0, size), np.float32), []
    together, nothing = (
        about["codes_per_input"],
        about["no_code"],
    )  # of a prior by depth, a position's
    entries = np.full((2, len(condition), together), nothing)
    entries[..., 0] = [condition, about["no_condition"]]
    depth = graph(folder, "depth") if together > 1 else None
    random = uniforms(seed, about["codes"] * (1 + about["ends"])).reshape(about["codes"], -1)
    for place in range(about["codes"]):
        level = place % together
        if level == 0:
            out, past = prior.run(None, {"entries": entries, "past": past})
            entries = np.full((2, 1, together), nothing)
        logits = out
        if depth:
            so_far = {"state": out, "entries": entries[:, 0, :-1]}
            logits = depth.run(None, so_far)[0][:, level]
        with np.errstate(invalid="ignore"):  # what neither can choose
            guided = logits[1] + guidance * (logits[0] - logits[1])
        code = next_code(guided, about, place, random[place, 0])
        if code == about["codebook_size"]:  # the end
            break
        codes.append(code)
        entries[..., level] = about["first_entries"][place % len(about["level_sizes"])] + code
    return np.array(codes), about


def main(folder, condition, seed, guidance=1.0):
    codes, about = sample(
        folder, [int(number) for number in condition.split(",") if number], seed, guidance
    )
    levels = len(about["level_sizes"])
    shape = [*about.get("grid", [-1]), *([levels] if levels > 1 else [])]
    (output,) = graph(folder, "decoder").run(None, {"codes": codes.reshape(1, *shape)})
    if "grid" in about:
        from PIL import Image

        pixels = ((output[0] + 1) * 127.5).round().clip(0, 255).astype(np.uint8).transpose(1, 2, 0)
        Image.fromarray(pixels.squeeze()).save(f"{condition}-{seed}.png")
    else:
        import soundfile

        soundfile.write(f"{condition}-{seed}.wav", output[0].clip(-1, 1), about["sample_rate"])


if __name__ == "__main__":
    folder, condition, seed, *guidance = sys.argv[1:]
    main(Path(folder), condition, int(seed), *map(float, guidance))
