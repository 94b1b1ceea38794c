"""Sets of features with given values."""

import torch
from torch import Tensor

from pipelines.evaluation.features import Features, Reference, statistics

CPU = torch.device("cpu")


def features(values: Tensor) -> Features:
    return Features(values, values, torch.arange(len(values)), torch.zeros(len(values)).long())


def as_reference(values: Tensor) -> Reference:
    return Reference("real", features(values), statistics(features(values)), "0" * 64)
