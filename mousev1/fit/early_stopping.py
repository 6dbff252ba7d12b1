"""When to lower the learning rate and when to stop: the published recipe's rule, as plain state."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from mousev1.fit.settings import TrainingSettings


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
    Its fields are plain numbers: ``EarlyStopping(**dataclasses.asdict(stopping))`` goes on where it was.

    Attributes:
        best: highest score so far.
        best_epoch: the epoch it came from; 0 before the first.
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

    def judge(self, score: float, settings: TrainingSettings) -> Verdict:
        """Take in an epoch's score; after ``ROUND_OVER`` and ``FINISHED`` the best weights are due.

        Raises:
            FloatingPointError: the score is not finite, so that training has diverged.
        """
        self.epoch += 1
        if not math.isfinite(score):
            raise FloatingPointError(
                f"epoch {self.epoch}: the validation correlation is undefined for every neuron: training has "
                "diverged; try a smaller learning_rate"
            )
        better = score > self.best + settings.tolerance
        if better:
            self.best, self.best_epoch, self.stale = score, self.epoch, 0
        else:
            self.stale += 1
        out_of_patience = self.stale >= settings.patience
        if self.epoch >= settings.max_epochs or (out_of_patience and self.round + 1 >= settings.rounds):
            self.finished = True
            return Verdict.FINISHED
        if out_of_patience:
            self.round, self.stale = self.round + 1, 0
            return Verdict.ROUND_OVER
        return Verdict.BETTER if better else Verdict.STALE

    def learning_rate(self, settings: TrainingSettings) -> float:
        """The rate of the current round."""
        return max(settings.learning_rate * settings.decay**self.round, settings.min_learning_rate)
