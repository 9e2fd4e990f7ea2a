"""Who may start now, who waits, who is refused."""
