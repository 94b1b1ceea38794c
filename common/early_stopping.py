"""The best of a training's held-out evaluations, and how long ago it was."""

import math
from typing import Any


class Best:
    """The lowest held-out loss so far, its step, and the evaluations since."""

    def __init__(self) -> None:
        self.loss, self.step, self.since = math.inf, 0, 0

    def take(self, loss: float, step: int) -> bool:
        """Takes in an evaluation; returns whether it is the best so far."""
        better = loss < self.loss
        if better:
            self.loss, self.step = loss, step
        self.since = 0 if better else self.since + 1
        return better

    def should_stop(self, patience: int) -> bool:
        """Whether training should end; never with a patience of 0."""
        return 0 < patience <= self.since

    def state_dict(self) -> dict[str, Any]:
        return {"loss": self.loss, "step": self.step, "since": self.since}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # checkpoints of earlier versions called the loss of a prior nats, and did not count
        self.loss = state_dict["loss"] if "loss" in state_dict else state_dict["nats"]
        self.step, self.since = state_dict["step"], state_dict.get("since", 0)
