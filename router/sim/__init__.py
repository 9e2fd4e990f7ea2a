"""The simulator: the router's real core in virtual time, in front of modelled engines."""
