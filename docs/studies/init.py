"""What does a speech encoder hear before its first step? PyTorch's initialisation of its convolutions, and one that keeps variance."""

from dataclasses import replace

import torch
from matplotlib import pyplot
from matplotlib.figure import Figure
from page import build, markdown, mean_sd
from torch import Tensor, nn

from stage1_tokenizer.codebook_usage import position_share
from stage1_tokenizer.quantizers import SimVQConfig
from stage1_tokenizer.speech.data import SpeechDataConfig, load_clips
from stage1_tokenizer.speech.net import Conv, Encoder
from stage1_tokenizer.speech.tokenizer import SpeechTokenizerConfig

SEEDS = (0, 1, 2)
CROPS, SECONDS = 32, 0.5
SMALL = SpeechTokenizerConfig(
    sample_rate=8000,
    ratios=(5, 5, 4),
    width=16,
    lstm_layers=1,
    n_fft=400,
    quantizer=SimVQConfig(code_dim=8),
)
MODELS = {
    "8 kHz, hop 100 (spoken_digits, fsdd)": SMALL,
    "16 kHz, hop 200 (librispeech_cpu)": replace(
        SMALL, sample_rate=16_000, ratios=(5, 5, 4, 2), n_fft=800
    ),
    "24 kHz, hop 320 (the default)": SpeechTokenizerConfig(),
}
INITS = ("PyTorch's", "variance kept")


def sounds(rate: int) -> Tensor:
    """Half a second from the middle of spoken digits."""
    clips = load_clips(SpeechDataConfig(source="spoken_digits"), "train", sample_rate=rate)
    size = round(SECONDS * rate)
    middles = []
    for index in range(0, len(clips), len(clips) // CROPS):
        waveform = clips.decode(clips[index])
        first = max((len(waveform) - size) // 2, 0)
        middles.append(
            nn.functional.pad(waveform[first : first + size], (0, max(size - len(waveform), 0)))
        )
    return torch.stack(middles[:CROPS])


def encoder(model: SpeechTokenizerConfig, init: str, seed: int) -> Encoder:
    """The encoder of an architecture, with one of the two initialisations."""
    torch.manual_seed(seed)
    dim = model.quantizer.code_dim
    net = Encoder(model.width, model.ratios, model.lstm_layers, dim, model.causal)
    if init == INITS[0]:
        for conv in (module.conv for module in net.modules() if isinstance(module, Conv)):
            fresh = nn.Conv1d(conv.in_channels, conv.out_channels, conv.kernel_size[0])
            with torch.no_grad():
                conv.weight = fresh.weight.detach()
                conv.bias.copy_(fresh.bias)
    return net


@torch.no_grad()
def layers(
    model: SpeechTokenizerConfig, init: str, seed: int, waveforms: Tensor
) -> list[list[float]]:
    """Of each convolution on the way, and last of the latents: loudness by the sound's, share of position."""
    net, values = encoder(model, init, seed), []

    def note(x: Tensor) -> None:
        centred = x - x.mean((0, 2), keepdim=True)
        loudness = float(centred.square().mean().sqrt() / waveforms.std())
        values.append([loudness, position_share(x.mT)])

    for module in (net.conv_in, *(level.down for level in net.levels)):
        module.register_forward_hook(lambda module, given, out: note(out))
    note(net(waveforms[:, : waveforms.shape[1] // model.hop * model.hop], None))
    return values


def write() -> Figure:
    """Prints a table of the latents; share of position and loudness, layer by layer."""
    results = {}
    for name, model in MODELS.items():
        waveforms = sounds(model.sample_rate)
        for init in INITS:
            results[name, init] = [layers(model, init, seed, waveforms) for seed in SEEDS]
    lines = [
        [
            name,
            init,
            mean_sd([100 * run[-1][1] for run in runs], 1),
            mean_sd([run[-1][0] for run in runs], 3),
        ]
        for (name, init), runs in results.items()
    ]
    header = [
        "encoder",
        "initialisation",
        "position alone (% of the latents' variance)",
        "latents' std by the sound's",
    ]
    print(markdown(header, lines))
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 3.5), layout="constrained")
    for (name, init), runs in results.items():
        means = torch.tensor(runs).mean(0)
        style = {"ls": "-" if init == INITS[1] else ":", "marker": "o", "ms": 3}
        style["color"] = f"C{list(MODELS).index(name)}"
        for axis, measure in zip(axes, (1, 0), strict=True):
            axis.plot(
                range(len(means)),
                means[:, measure],
                label=f"{name.split(' (')[0]}, {init}",
                **style,
            )
    axes[0].set(
        title="share of variance by position alone", xlabel="layer; the last are the latents"
    )
    axes[1].set(title="std by the sound's", xlabel="layer", yscale="log")
    axes[0].legend(fontsize="x-small")
    return figure


if __name__ == "__main__":
    build("init", write)
