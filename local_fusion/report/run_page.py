"""The report of a batch run: what `facts` counted, laid out for a reader who was not there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from local_fusion.batch.files import replace_whole
from local_fusion.batch.folder import later_versions
from local_fusion.batch.past import ERRORS, OUTPUT
from local_fusion.errors import InputError
from local_fusion.report import charts
from local_fusion.report.agreement import Agreement
from local_fusion.report.choose import Choice
from local_fusion.report.effort import STAGES, Sums
from local_fusion.report.facts import Facts, facts_of
from local_fusion.report.page import Html, browser, cards, joined, page, paragraph, section, table

REPORT = "report.html"
LINKS = {
    "outcome": "Outcome",
    "time": "Time line",
    "members": "Members",
    "effort": "Stages",
    "agreement": "Agreement",
    "fusion": "How it fused",
    "settings": "Settings",
    "rows": "Rows",
}
STATES: Mapping[str, str] = {
    "finished": "finished",
    "interrupted": "interrupted; the same command goes on",
    "running": "under way, or killed: then the same command goes on",
    "failed": "stopped by an error; the same command goes on",
}


def write_report(folder: Path, out: Path | None = None, choice: Choice | None = None) -> Path:
    """Write the report of the run in `folder` (default: into it) and return its path.

    Raises InputError where there is no run or the file cannot be written.
    """
    target = out or folder / REPORT
    if not target.parent.is_dir():
        raise InputError(f"{target.parent} is no folder; make it, or name another file with --out")
    if target.suffix != ".html" and target.exists():
        raise InputError(f"{target} is there already and no .html file; name another file with --out")
    content = run_page(facts_of(folder, choice))
    try:
        replace_whole(target, content)
    except OSError as problem:
        raise InputError(f"cannot write {target}: {problem.strerror}; name another file with --out") from None
    return target


def run_page(facts: Facts) -> bytes:
    """The whole page."""
    about, history = facts.run.about, facts.history
    mode = str(about.get("mode", "?"))
    title = f"{facts.run.fusion}: {facts.total:,} rows"
    state = STATES.get(str(about.get("status")), str(about.get("status")))
    source = Path(str(about["input"]["path"])).name
    lead = (
        f"{source} through {facts.run.fusion} ({mode}), {state}; begun {about.get('started_at', 'at an unknown time')}"
    )
    body = joined(
        *(paragraph(problem, "warning") for problem in facts.run.problems),
        _figures(facts),
        _pair(
            section("Outcome", *_outcome(facts), ident="outcome"),
            section("What failed", *_failures(facts), ident="failures"),
        ),
        section("Time line", *_time(facts), ident="time"),
        section("Members", _members(facts), ident="members"),
        section("Calls by stage and member", _effort(history.effort.by), ident="effort"),
        _pair(
            section("Agreement of members", *_agreement(facts.agreement), ident="agreement"),
            section("How it fused", *_fused(facts), ident="fusion"),
        ),
        section("Settings", *_settings(facts), ident="settings"),
        browser("Rows", _word(facts)),
    )
    return page(title, lead, body, facts.rows, LINKS)


def _pair(*sections: Html) -> Html:
    return Html(f'<div class="pair">{joined(*sections)}</div>')


def _figures(facts: Facts) -> Html:
    history, timeline = facts.history, facts.history.effort.timeline
    sums = history.effort.by.values()
    written, prompt, cached = (sum(getattr(one, name) for one in sums) for name in ("completion", "prompt", "cached"))
    done, middle, tail = facts.ended, facts.seconds.at(0.5), facts.seconds.at(0.95)
    entries = [
        ("answered", f"{history.succeeded:,}", f"of {facts.total:,} rows"),
        ("failed", f"{history.failed:,}", _share(history.failed, done) + " of those that ended" if done else ""),
        ("tokens written", _short(written), f"{_short(prompt)} read, {_share(cached, prompt)} from cache"),
        ("calls", _short(sum(one.calls for one in sums)), f"{_short(sum(one.gpu_s for one in sums))} GPU-seconds"),
    ]
    if timeline.end_s:
        rate = f"{done / timeline.end_s:,.1f} rows/s" if done else ""
        entries.append(("at work", charts.clock(timeline.end_s), rate))
    if middle is not None and tail is not None:
        entries.append(("a row takes", f"{middle:.2g} s", f"19 of 20 at most {tail:.2g} s"))
    return cards(entries)


def _outcome(facts: Facts) -> tuple[Html, ...]:
    history = facts.history
    degraded = history.tallies[OUTPUT].marks.get("degraded", 0)
    parts = [
        ("good-fill", "answered", float(history.succeeded - degraded)),
        ("f1", "answered, degraded", float(degraded)),
        ("bad-fill", "failed", float(history.failed)),
        ("rest-fill", "not ended", float(facts.rest)),
    ]
    told = [charts.share_bar(parts, "Rows by outcome")]
    if facts.degraded:
        told.append(charts.ranked("degraded because", facts.degraded, history.succeeded))
    if history.sessions > 1:
        told.append(paragraph(f"The run took {history.sessions} sessions."))
    if history.open_rows:
        told.append(paragraph(f"{len(history.open_rows):,} rows had begun and not ended when this was read."))
    return tuple(told)


def _failures(facts: Facts) -> tuple[Html, ...]:
    history = facts.history
    answered, failed = history.tallies[OUTPUT], history.tallies[ERRORS]
    members = dict(answered.member_failures)
    for reason, count in failed.member_failures.items():
        members[reason] = members.get(reason, 0) + count
    told = []
    if failed.failures:
        told.append(charts.ranked("rows, by error", failed.failures, history.succeeded + history.failed))
    if members:
        told.append(charts.ranked("calls of members and judge, by reason", members, sum(members.values()), of="calls"))
    if not told and history.bytes_read:
        told.append(paragraph("Nothing: every row that ended has an answer, and every member gave its own."))
    return tuple(told)


def _time(facts: Facts) -> tuple[Html, ...]:
    timeline = facts.history.effort.timeline
    series = timeline.under_way()
    if not series:
        return (paragraph("The journal of this run has no times of calls."),)
    colours = {stage: STAGES.index(stage) if stage in STAGES else len(STAGES) for stage in series}
    word = f"Calls under way by stage, a column is {charts.clock(timeline.width_s)}."
    if timeline.breaks:
        word += " Upright lines: a new session began; the time between is left out."
    return (
        paragraph(word),
        charts.stacked(series, colours, timeline.end_s, timeline.breaks, "Calls under way over time, by stage"),
    )


def _members(facts: Facts) -> Html:
    good, bad = facts.history.tallies[OUTPUT].members, facts.history.tallies[ERRORS].members
    calls: dict[str, Sums] = {}
    for (_, model), sums in facts.history.effort.by.items():
        total = calls.setdefault(model, Sums())
        for name in ("calls", "prompt", "cached", "completion", "seconds", "gpu_s"):
            setattr(total, name, getattr(total, name) + getattr(sums, name))
    rows = []
    for model in dict.fromkeys([*good, *bad, *calls]):
        answers, wrote = (getattr(good[model], name) if model in good else 0 for name in ("answers", "wrote"))
        failures = sum(tally[model].failures for tally in (good, bad) if model in tally)
        sums = calls.get(model, Sums())
        rows.append(
            (
                model,
                f"{answers:,}",
                f"{failures:,}",
                f"{wrote:,}",
                f"{sums.calls:,}",
                f"{sums.prompt:,}",
                _share(sums.cached, sums.prompt),
                f"{sums.completion:,}",
                f"{sums.seconds:,.1f}",
                f"{sums.completion / sums.seconds:,.0f}" if sums.seconds else "",
                f"{sums.gpu_s:,.1f}",
            )
        )
    columns = ("member", "answers", "failed", "final answers", "calls", "tokens read", "cached", "written")
    caption = (
        "Seconds are sums over calls, which overlap. Calls and tokens include those of rows that failed or were cut."
    )
    return table((*columns, "seconds", "tokens/s of a call", "GPU-seconds"), rows, caption)


def _effort(by: Mapping[tuple[str, str], Sums]) -> Html:
    def order(key: tuple[str, str]) -> tuple[int, str]:
        return (STAGES.index(key[0]) if key[0] in STAGES else len(STAGES), key[1])

    rows = []
    for stage, model in sorted(by, key=order):
        sums = by[stage, model]
        ended = max(1, sums.calls - sum(sums.failed.values()))
        failed = ", ".join(f"{count:,} {reason}" for reason, count in sorted(sums.failed.items()))
        rows.append(
            (
                stage,
                model,
                f"{sums.calls:,}",
                f"{sums.prompt:,}",
                _share(sums.cached, sums.prompt),
                f"{sums.completion:,}",
                f"{sums.seconds / ended:.3f}",
                f"{sums.queued_s / ended:.3f}",
                f"{sums.gpu_s:,.1f}",
                failed or "none",
            )
        )
    columns = ("stage", "member", "calls", "tokens read", "cached", "written", "seconds a call", "of it waiting")
    return table((*columns, "GPU-seconds", "failed"), rows, words=(0, 1, 9))


def _agreement(agreement: Agreement) -> tuple[Html, ...]:
    names = agreement.members
    if not names:
        return (paragraph("No two answers could be compared by value: they are free text, or there is one member."),)

    def cell(one: str, other: str) -> tuple[float, str, str] | None:
        pair = agreement.pair(one, other)
        return None if pair is None else (pair.share, f"{100 * pair.share:.0f} %", f"{pair.compared:,} pairs")

    kinds = ", ".join(f"{kind} {count:,}" for kind, count in sorted(agreement.kinds.items(), key=lambda one: -one[1]))
    return (
        charts.heat(names, cell, "How often two members' first answers come to the same value"),
        paragraph(
            f"{agreement.compared:,} of {agreement.rows:,} rows looked at have answers that can be compared by value "
            f"({kinds}); in {_share(agreement.unanimous, agreement.compared)} of these all members agree."
        ),
    )


def _fused(facts: Facts) -> tuple[Html, ...]:
    history, marks = facts.history, facts.history.tallies[OUTPUT].marks
    kept = facts.kept
    rows: list[tuple[str, str, str]] = [
        (name, f"{count:,}", _share(count, history.succeeded))
        for name, count in (
            ("analysed", marks.get("analysed", 0)),
            ("the guard compared", marks.get("guarded", 0)),
            ("the guard kept what was written", kept.get("written", 0)),
            ("the guard kept a member's answer", kept.get("answer", 0)),
            ("ended early: the winner could not change", marks.get("early_exit", 0)),
            ("members changed their minds", marks.get("changed_minds", 0)),
            ("degraded", marks.get("degraded", 0)),
        )
    ]
    told = [table(("rows in which", "rows", "of answered"), rows)]
    if facts.aborted:
        told.append(paragraph(f"{facts.aborted:,} calls were stopped because they were no longer needed."))
    if facts.why:
        told.append(charts.ranked("why the mode", facts.why, history.succeeded, most=6))
    return tuple(told)


def _settings(facts: Facts) -> tuple[Html, ...]:
    about = facts.run.about
    identity = about.get("identity", {})
    settings = identity.get("settings", {})
    seats = ", ".join(
        f"{seat['model']} ×{seat['samples']}" if seat.get("samples", 1) > 1 else seat["model"]
        for seat in identity.get("panel", ())
    )
    rows = [
        ("panel", seats),
        ("judge", settings.get("judge") or (identity.get("panel") or [{"model": "?"}])[0]["model"]),
        ("writer", ", ".join(settings.get("writer") or ()) or "the judge"),
        ("seed", identity.get("seed", "?")),
        ("templates", identity.get("templates", "?")),
        ("settings", str(about.get("config_digest", "?"))[:16]),
        ("input", f"{about['input']['path']} (sha256 {str(about['input'].get('sha256'))[:16]})"),
        ("versions", _versions(about.get("versions", {}))),
    ]
    rows += [("versions of a later session", _versions(later)) for later in later_versions(about)]
    rows += [(f"weights of {model}", digest) for model, digest in identity.get("weights", {}).items()]
    return (table(("setting", "value"), rows, words=(0, 1)),)


def _versions(noted: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in noted.items())


def _word(facts: Facts) -> str:
    if not facts.history.bytes_read:
        return "Rows are listed by the run's journal, and nothing of it could be read."
    listed, ended = len(facts.rows), facts.ended + len(facts.history.open_rows)
    if listed >= ended:
        return f"All {listed:,} rows that have begun, in the order of the input."
    more = f" {facts.left_out:,} rows drawn are left out: the page would be too large." if facts.left_out else ""
    return (
        f"{listed:,} of {ended:,} rows are listed: drawn evenly, and more of those that failed, were degraded or where "
        f"the guard acted. Everything above counts every row; the whole of each lies in the run's folder.{more}"
    )


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "0 %"


def _short(number: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if number >= size:
            return f"{number / (1e3 if unit == 'k' else size):,.1f} {unit}"
    return f"{number:,.0f}"
