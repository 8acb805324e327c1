"""Makes control tokens in untrusted text plain, so that no answer can end a turn or open a reasoning block."""

from __future__ import annotations

import re
from collections.abc import Iterable

# Families seen in open models: ChatML and Llama 3 `<|…|>`, DeepSeek `<｜…｜>`, Llama 2 and Mistral `[INST]`, `<<SYS>>`,
# Gemma `<start_of_turn>`, `<s>`, reasoning and tool tags.
_CONTROL = re.compile(
    r"<(?=[|｜])|<(?=<SYS>>)|<(?=</?SYS>>)|<(?=/?(?:s|bos|eos|pad|unk|think|tool_call|tool_response|tools|answer|"
    r"start_of_turn|end_of_turn|start_of_image|end_of_image|mask)>)|\[(?=/?(?:INST|SYSTEM_PROMPT|TOOL_CALLS|"
    r"AVAILABLE_TOOLS|TOOL_RESULTS|TOOL_CONTENT|THINK)\])",
    re.IGNORECASE,
)
_UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f]")


def neutralise(text: str, special_tokens: Iterable[str] = ()) -> str:
    """Return `text` with every control token broken by a space after its first character.

    `special_tokens`: the reader's own special tokens (from its tokenizer), beyond the known families. NUL and other
    C0 control characters, but for tab and newline, are dropped: no tokenizer needs them and terminals obey them.
    """
    text = _UNSEEN.sub("", text)
    text = _CONTROL.sub(lambda match: match.group(0) + " ", text)
    for token in special_tokens:
        if len(token) > 1 and not token.isspace() and token in text:
            text = text.replace(token, token[0] + " " + token[1:])
    return text
