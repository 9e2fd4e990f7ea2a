"""An engine without a model: vLLM's HTTP surface and metrics over a timing model, with faults."""

from engine.emulator.config import ConfigError, EmulatorConfig
from engine.emulator.faults import Fault, FaultBoard, FaultError, Kind
from engine.emulator.profiles import PROFILES, Timing
from engine.emulator.server import Emulator
from engine.emulator.timing import EngineModel, Sequence

__all__ = [
    "PROFILES",
    "ConfigError",
    "Emulator",
    "EmulatorConfig",
    "EngineModel",
    "Fault",
    "FaultBoard",
    "FaultError",
    "Kind",
    "Sequence",
    "Timing",
]
