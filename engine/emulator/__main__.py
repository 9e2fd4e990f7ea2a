"""`python -m engine.emulator` is `warmpath-engine emulate`."""

from engine.emulator.cli import emulate

emulate(prog_name="python -m engine.emulator")
