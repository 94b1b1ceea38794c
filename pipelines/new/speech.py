"""The recipe of speech."""

from statistics import fmean, median, mode

from pipelines.new.facts import SpeechFacts
from pipelines.new.parts import (
    classifier,
    codebook_size,
    fill,
    head,
    last,
    per_code,
    prior,
    quoted,
    training,
)

SPEECH = """  audio_column: $column
  speaker_column: $speaker_column # $speakers
  text_column: $text_column

tokenizer:
  augment:
    crop_seconds: $crop # of one training item; clips have $shortest to $longest seconds
    silence_db: $silence # what is quieter is not trained on; one clip of ten has less than $quiet dB
  model:
    sample_rate: $rate # the files have $rates Hz and $channels
    ratios: $ratios # $hop samples per code: 80 codes per second
    width: 16 # small networks, for a short training
    lstm_layers: 1
    decoder_width: 192
    decoder_hidden: 576
    decoder_layers: 4
    n_fft: $n_fft
    quantizer: {codebook_size: $codes, code_dim: 8, weight: 15, beta: 0.1, gram_penalty: 1.0e-3} # $per_code
  loss: {adversarial_weight: 0} # discriminators take longer
  steps: $$tokenizer_steps # $$note
  optim: {lr: 2.0e-3, warmup_steps: $$tokenizer_warmup, grad_clip: 1000}
  quantizer_lr: 1.0e-2
  save_every: $$tokenizer_save
"""


def speech(facts: SpeechFacts, minutes: float) -> str:
    """A recipe for speech."""
    rate = 16000 if mode(facts.rates) >= 16000 else 8000
    hop = rate // 80
    positions = facts.count * fmean(facts.seconds) * 80
    text = fill(
        SPEECH,
        column=quoted(facts.column),
        speaker_column=quoted(facts.speaker_column),
        speakers=f"{facts.speakers} speakers" if facts.speakers else "not known, or one alone",
        text_column=quoted(facts.text_column),
        crop=1.0 if median(facts.seconds) >= 1.5 else 0.5,
        shortest=f"{min(facts.seconds):.1f}",
        longest=f"{max(facts.seconds):.1f}",
        silence=-40 if facts.quiet > -35 else -60,
        quiet=f"{facts.quiet:.0f}",
        rate=rate,
        rates=", ".join(map(str, sorted(set(facts.rates)))),
        channels="one channel" if facts.channels == 1 else "channels that are mixed down",
        ratios=[5, 5, 4] if rate == 8000 else [5, 5, 4, 2],
        hop=hop,
        n_fft=4 * hop,
        codes=codebook_size(positions),
        per_code=per_code(positions),
    )
    known = {"label": facts.label_column, "speaker": facts.speaker_column}
    condition = "+".join(name for name, column in known.items() if column) or "none"
    text_too = "; text would take hours of speech" if facts.text_column else ""
    parts = [
        head(facts, "speech") + text + training(8),
        "\ncodes:\n",
        classifier(facts, f"sample_rate: {rate}", "the scores have no label accuracy"),
        prior(positions, f"  condition: {condition} # what it is told{text_too}\n"),
        last(facts, min(128, int(10 * minutes)), "  temperature: 0.75\n"),
        f"  slow_count: {min(20, max(facts.count // 10, 1))} # clips that slow metrics are computed on\n",
    ]
    return "".join(parts)
