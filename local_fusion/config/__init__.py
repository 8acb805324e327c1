"""`models.yaml` to checked, frozen settings. Imports nothing heavy: no torch, vllm or ray."""

from local_fusion.config.load import Config, find_config, load_config, parse_config
from local_fusion.config.schema import FusionSettings, MemberSettings, ModelSettings, RuntimeSettings, SamplingSettings
from local_fusion.config.server import ServerSettings

__all__ = [
    "Config",
    "FusionSettings",
    "MemberSettings",
    "ModelSettings",
    "RuntimeSettings",
    "SamplingSettings",
    "ServerSettings",
    "find_config",
    "load_config",
    "parse_config",
]
