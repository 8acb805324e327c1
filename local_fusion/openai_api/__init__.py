"""OpenAI's wire shapes to the project's values and back; pure: no HTTP, no files, no engines."""

from local_fusion.openai_api.fusion_fields import FusionFields, parse_fusion
from local_fusion.openai_api.reply import chat_completion, error_body, fusion_receipt, usage
from local_fusion.openai_api.request import FUSION_ALIAS, ChatRequest, parse_chat

__all__ = [
    "FUSION_ALIAS",
    "ChatRequest",
    "FusionFields",
    "chat_completion",
    "error_body",
    "fusion_receipt",
    "parse_chat",
    "parse_fusion",
    "usage",
]
