"""When an attempt may be made again, and how many such attempts a cluster can bear."""
