"""When to lower the learning rate and when to stop: the published recipe's rule, as plain state."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from training.pretraining.config import OptimisationConfig


class Verdict(Enum):
    """What an epoch's score means."""

    BETTER = "better"
    STALE = "stale"
    ROUND_OVER = "round over"
    FINISHED = "finished"


@dataclass
class EarlyStopping:
    """Follows the validation score over rounds of falling learning rate.

    The published code lowers the rate by torch's ``ReduceLROnPlateau``, whose patience runs out one epoch
    after that of its early stopping; here both happen together, when the best weights are restored.

    Attributes:
        best: highest score so far.
        best_epoch: the epoch it came from.
        stale: epochs of this round since the last better one.
        round: of the learning rate, from 0.
        epoch: epochs judged so far.
        finished: whether training is over.
    """

    best: float = -math.inf
    best_epoch: int = 0
    stale: int = 0
    round: int = 0
    epoch: int = 0
    finished: bool = False

    def judge(self, score: float, config: OptimisationConfig) -> Verdict:
        """Take in an epoch's score; after ``ROUND_OVER`` and ``FINISHED`` the best weights are due."""
        self.epoch += 1
        better = score > self.best + config.tolerance
        if better:
            self.best, self.best_epoch, self.stale = score, self.epoch, 0
        else:
            self.stale += 1
        out_of_patience = self.stale >= config.patience
        if self.epoch >= config.max_epochs or (out_of_patience and self.round + 1 >= config.rounds):
            self.finished = True
            return Verdict.FINISHED
        if out_of_patience:
            self.round, self.stale = self.round + 1, 0
            return Verdict.ROUND_OVER
        return Verdict.BETTER if better else Verdict.STALE

    def learning_rate(self, config: OptimisationConfig) -> float:
        """The rate of the current round."""
        return max(config.learning_rate * config.decay**self.round, config.min_learning_rate)
