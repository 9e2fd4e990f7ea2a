"""What became of requests in clusters with sessions."""


class SessionCounts:
    """Of one cluster, in one process; survives reloads.

    Attributes:
        kept: requests that went to their session's endpoint.
        begun: requests without one to go to.
        moved: requests whose session's endpoint could not be used.
    """

    __slots__ = ("begun", "kept", "moved")

    def __init__(self) -> None:
        self.kept = self.begun = self.moved = 0

    def __repr__(self) -> str:
        return f"<SessionCounts kept={self.kept} new={self.begun} moved={self.moved}>"
