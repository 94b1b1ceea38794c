"""Controls: what samples must be better than, from sequences of codes that know frequencies alone."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from common.codes import code_sequences, read_codes
from common.seeding import epoch_order, generator_at
from pipelines.evaluation.comparison import Comparison, distances
from pipelines.evaluation.features import Extractor, Features, Reference, References, statistics
from pipelines.evaluation.fidelity import TOO_FEW, frechet_distance, metric_name
from pipelines.evaluation.table import Metric, Metrics, Unavailable, metric

NO_CODES = Unavailable(
    "the training codes are not at hand: set codes to the folder of `simvq encode`"
)
BLOCKS = 4
"""Blocks of an image's side that are shuffled, and half of the pieces of a clip."""

Uniforms = np.ndarray[Any, Any]
"""Random values in [0, 1), one for each code of a sequence and one more, (n, longest + 1)."""


@dataclass(frozen=True)
class CodeTables:
    """The training sequences one after the other, and where each begins."""

    codes: np.ndarray[Any, Any]
    starts: np.ndarray[Any, Any]
    lengths: np.ndarray[Any, Any]
    levels: int
    """Codes of one position."""

    def independent(self, uniforms: Uniforms) -> list[Int[Tensor, " _"]]:
        """Sequences of codes drawn from all training codes of their level."""
        positions = len(self.codes) // self.levels

        def choose(place: int, u: Uniforms) -> np.ndarray[Any, Any]:
            return self.codes[(u * positions).astype(int) * self.levels + place % self.levels]

        return self.sequences(uniforms, choose)

    def marginals(self, uniforms: Uniforms) -> list[Int[Tensor, " _"]]:
        """Sequences of codes drawn from the training codes at their place."""
        longest_first = np.argsort(-self.lengths, kind="stable")
        sorted_lengths = self.lengths[longest_first]

        def choose(place: int, u: Uniforms) -> np.ndarray[Any, Any]:
            reaching = np.searchsorted(-sorted_lengths, -place)
            return self.codes[self.starts[longest_first[(u * reaching).astype(int)]] + place]

        return self.sequences(uniforms, choose)

    def sequences(
        self, uniforms: Uniforms, choose: Callable[[int, Uniforms], np.ndarray[Any, Any]]
    ) -> list[Int[Tensor, " _"]]:
        """Sequences as long as training sequences, each of whose codes `choose` gives for its place."""
        lengths = self.lengths[(uniforms[:, -1] * len(self.lengths)).astype(int)]
        columns = [choose(place, uniforms[:, place]) for place in range(int(lengths.max()))]
        codes = np.stack(columns, 1).astype(np.int64)
        return [torch.from_numpy(row[:size]) for row, size in zip(codes, lengths, strict=True)]

    def bigrams(self, uniforms: Uniforms) -> list[Int[Tensor, " _"]]:
        """Sequences in which each code follows the one before it somewhere in training; the first begins a sequence.

        It is a walk over the training codes: jump to a random occurrence of the last code and take what follows it,
        which may be the end where sequences differ in length. If nothing follows a code, the next one is the
        first training sequence's at that place.
        """
        ends = self.lengths.min() < self.lengths.max()
        last = np.zeros(len(self.codes), dtype=bool)
        last[self.starts + self.lengths - 1] = True
        levels = np.arange(len(self.codes)) % self.levels
        keys = self.codes.astype(np.int64) * self.levels + levels
        followed = np.flatnonzero(np.ones_like(last) if ends else ~last)
        order = followed[np.argsort(keys[followed], kind="stable")]
        sorted_keys = keys[order]
        index = self.starts[(uniforms[:, 0] * len(self.starts)).astype(int)]  # into self.codes
        chosen, ended = [index], np.zeros(len(index), dtype=bool)
        for column in range(1, int(self.lengths.max())):
            low = np.searchsorted(sorted_keys, keys[index])
            count = np.searchsorted(sorted_keys, keys[index], side="right") - low
            nth = np.minimum(low + (uniforms[:, column] * count).astype(int), len(order) - 1)
            occurrence = order[nth]
            ended = ended | (last[occurrence] & ends)
            following = np.minimum(occurrence + 1, len(keys) - 1)
            index = np.where(count > 0, following, self.starts[0] + column)
            chosen.append(np.where(ended, -1, index))
        walks = np.stack(chosen, 1)
        return [torch.from_numpy(self.codes[walk[walk >= 0]].astype(np.int64)) for walk in walks]


def code_tables(folder: Path, levels: int) -> CodeTables:
    """The tables of the training codes of a folder."""
    sequences = list(code_sequences(read_codes(folder, "train")))
    lengths = np.array([*map(len, sequences)])
    starts = np.cumsum(lengths) - lengths
    return CodeTables(np.concatenate(sequences), starts, lengths, levels)


def control_sequences(
    tables: CodeTables, count: int, seed: int
) -> Iterator[tuple[str, list[Int[Tensor, " _"]]]]:
    """The name of each table, and `count` sequences from it; sequence i is a function of the seed and of i."""
    size = int(tables.lengths.max()) + 1
    rows = [
        torch.rand(size, generator=generator_at(seed, i), dtype=torch.float64) for i in range(count)
    ]
    uniforms = torch.stack(rows).numpy()
    for name, table in (
        ("i.i.d. codes", tables.independent),
        ("marginals", tables.marginals),
        ("bigrams", tables.bigrams),
    ):
        yield name, table(uniforms)


def scrambled_image(image: Tensor, index: int) -> Tensor:
    """A real image (c, y, x) cut into 4 x 4 blocks, which change places; a side's remainder stays where it is."""
    side = image.shape[-1] // BLOCKS * BLOCKS
    blocks = rearrange(image[:, :side, :side], "c (h y) (w x) -> (h w) c y x", h=BLOCKS, w=BLOCKS)
    mixed = blocks[epoch_order(BLOCKS**2, index, 0)]
    scrambled = image.clone()
    scrambled[:, :side, :side] = rearrange(mixed, "(h w) c y x -> c (h y) (w x)", h=BLOCKS)
    return scrambled


def scrambled_clip(waveform: Float[Tensor, " t"], index: int) -> Float[Tensor, " t"]:
    """A real clip in eight pieces, which change places."""
    pieces = waveform.tensor_split(2 * BLOCKS)
    return torch.cat([pieces[i] for i in epoch_order(2 * BLOCKS, index, 0).tolist()])


def train_to_train(references: Sequence[References[Any]]) -> Metrics:
    """The Frechet distance of the training items to themselves, by each extractor's features: 0 but for rounding."""
    return distances([Comparison(each.train.features, each) for each in references], "train")


def shares(sets: Mapping[str, Sequence[Comparison[Any]]], seed: int) -> Metrics:
    """The share of the way from bigrams to reconstructions, by each extractor; `sets` are compared by each."""
    return {
        metric_name("share of the way", each.real.extractor): share_of_the_way(
            {name: by_extractor[i].features for name, by_extractor in sets.items()},
            each.real.train,
            each.real.extractor,
            seed,
        )
        for i, each in enumerate(sets["samples"])
    }


def share_of_the_way(
    sets: dict[str, Features], real: Reference, extractor: Extractor, seed: int
) -> Metric | Unavailable:
    """(FD(bigrams) - FD(samples)) / (FD(bigrams) - FD(reconstruction)), of as many items of each.

    0 is a table of bigrams, 1 is as good as the tokenizer allows.
    """
    if "bigrams" not in sets:
        return NO_CODES
    chosen = [sets[name] for name in ("samples", "bigrams", "reconstruction")]
    count = min(map(len, chosen))
    if count < 2:
        return TOO_FEW
    samples, bigrams, best = (
        frechet_distance(statistics(some(each, count, seed)), real.statistics) for each in chosen
    )
    if bigrams <= best:
        return Unavailable("bigrams lie no further away than reconstructions do")
    return metric(
        value=(bigrams - samples) / (bigrams - best),
        count=count,
        extractor=extractor.name,
        extractor_sha256=extractor.sha256,
        reference=real.name,
        note=f"0 is a table of bigrams, 1 what the tokenizer allows; {count:,} items of each",
    )


def some(features: Features, count: int, seed: int) -> Features:
    """`count` of the items, chosen at random by the seed."""
    chosen = epoch_order(len(features), seed, 0)[:count]
    parts = (features.features, features.logits, features.indices, features.labels)
    return Features(*(part[chosen] for part in parts))
