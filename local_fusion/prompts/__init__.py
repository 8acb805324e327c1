"""The judge's words: builds the message lists of every stage from a template set.

Invariant: for one brief, the messages of every judge stage begin with the same system turn and the same user text up
to the end of the last fence, so that an engine's prefix cache serves all but the first call. Panel text is untrusted:
it stands inside fences whose tag occurs in none of the texts, with control tokens made plain.
Knows nothing of engines; a template set is a YAML file of Jinja strings (`default`, `short`, or the user's own path).
"""

from local_fusion.prompts.brief import Brief, Candidate, make_brief, shorten
from local_fusion.prompts.neutral import neutralise
from local_fusion.prompts.schema import analysis_schema, parse_analysis
from local_fusion.prompts.templates import PromptSet, load_prompts

__all__ = [
    "Brief",
    "Candidate",
    "PromptSet",
    "analysis_schema",
    "load_prompts",
    "make_brief",
    "neutralise",
    "parse_analysis",
    "shorten",
]
