"""How well first tokens were predicted, for whoever wants to know: nothing rests on it."""


class Foresight:
    """Of one cluster, over the streams that this process sent and that began.

    Attributes:
        answers: that began.
        predicted, observed: seconds to their first tokens, added up.
        error: seconds by which the one missed the other, added up.
    """

    __slots__ = ("answers", "error", "observed", "predicted")

    def __init__(self) -> None:
        self.answers = 0
        self.predicted = 0.0
        self.observed = 0.0
        self.error = 0.0

    def met(self, predicted: float, observed: float) -> None:
        """A first token has come."""
        self.answers += 1
        self.predicted += predicted
        self.observed += observed
        self.error += abs(predicted - observed)

    def __repr__(self) -> str:
        return (
            f"<Foresight {self.answers} answers, {self.error:.1f}s of {self.observed:.1f}s wrong>"
        )
