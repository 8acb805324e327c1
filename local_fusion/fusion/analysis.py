"""The analysis: guided JSON of the five lists, repaired once where it cannot be read, else left out."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from local_fusion.errors import CallError
from local_fusion.fusion.case import Case
from local_fusion.fusion.events import AnalysisDone, AnalysisStarted
from local_fusion.fusion.session import Session
from local_fusion.prompts import analysis_schema, neutralise, parse_analysis
from local_fusion.types import Analysis, Message, Stage

BROKEN_CHARACTERS = 2_000  # of an unreadable analysis that are shown again
NO_ANALYSIS = "the analysis could not be had; the answer was written from the raw answers"


async def analyse(session: Session, case: Case) -> str | None:
    """The judge's JSON text for the next stages, or None; the analysis with models by name goes into the receipt."""
    session.emit(AnalysisStarted(session.recipe.judge))
    text, session.analysis = await _analysed(session, case)
    session.emit(AnalysisDone(session.analysis))
    if session.analysis is None:
        session.degrade(NO_ANALYSIS)
    return text


async def _analysed(session: Session, case: Case) -> tuple[str | None, Analysis | None]:
    brief, criteria, prompts = case.brief(), session.settings.criteria, session.recipe.prompts
    names = {candidate.label: case.names[candidate.index] for candidate in brief.candidates}
    schema = _schema(brief.labels, session.settings.analysis_items, session.settings.analysis_chars)
    stage: Stage = "analyse"
    messages = prompts.analyse(brief, criteria)
    while True:
        try:
            text = neutralise(await _ask(session, stage, messages, schema), case.specials)
            return text, parse_analysis(text, names)
        except CallError as problem:
            session.failed(session.recipe.judge, stage, problem)
            return None, None
        except (ValueError, RecursionError) as problem:
            told = str(problem) if isinstance(problem, ValueError) else "it is nested too deeply"
            session.failed(session.recipe.judge, stage, CallError(f"the analysis is not valid: {told}", "invalid_json"))
            if stage == "repair" or session.expired:
                return None, None
        stage, messages = "repair", prompts.repair(brief, text[:BROKEN_CHARACTERS], told, criteria)


async def _ask(session: Session, stage: Stage, messages: tuple[Message, ...], schema: Mapping[str, Any]) -> str:
    judge = session.recipe.judge
    sampling = session.recipe.judge_sampling
    completion, _ = await session.generate(stage, judge, 0, messages, sampling, json_schema=schema)
    if not completion.text:
        raise CallError(f"{judge} gave no analysis", "empty")
    return completion.text


@lru_cache(maxsize=128)
def _schema(labels: tuple[str, ...], items: int, characters: int) -> dict[str, Any]:
    return analysis_schema(labels, items, characters)
