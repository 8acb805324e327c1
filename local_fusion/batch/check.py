"""What can be known of a batch before any engine runs: whether it may start, and which rows are bad."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from local_fusion.batch.folder import RunFolder
from local_fusion.batch.ids import IdSet, LineSet
from local_fusion.batch.lines import no_rows, read_lines
from local_fusion.batch.options import BatchOptions
from local_fusion.batch.past import Past, read_past
from local_fusion.batch.progress import Summary
from local_fusion.batch.rows import BadRow, Terms, read_rows
from local_fusion.batch.tally import Tally, failure_tally, summary_of
from local_fusion.errors import InputError
from local_fusion.fusion.recipe import Recipe

_TOLD_ROWS = 20


def check_run(source: Path, folder: Path, recipe: Recipe, options: BatchOptions) -> bool:
    """Whether any row is left to run: where none is, `run_batch` needs no engines. Makes the folder.

    Raises what `run_batch` would raise at its start, before anyone has waited for engines.
    """
    place = RunFolder(source, folder, recipe, options)
    try:
        past = read_past(folder)
        check_retry(source, past, options)
    finally:
        place.release()
    if options.retry_failed and past.tally.failed:
        return True
    return any(line not in past.done for line, _ in islice(read_lines(source), options.limit))


def check_retry(source: Path, past: Past, options: BatchOptions) -> None:
    """Raises InputError where rows that failed lie beyond the limit: a retry drops every error there is."""
    if not options.retry_failed or options.limit is None:
        return
    last = max((line for line, _ in islice(read_lines(source), options.limit)), default=0)
    if past.last_failed > last:
        raise InputError(
            f"rows that failed lie beyond the first {options.limit} (one is line {past.last_failed}), and a retry is "
            "of all that failed; leave --limit out, or raise it"
        )


def check_rows(source: Path, recipe: Recipe, options: BatchOptions) -> Summary:
    """Read every row and run none: the dry run. The first problems are in the summary. Raises InputError."""
    tally, told = Tally(), list[str]()
    for row in read_rows(source, terms_of(source, recipe, options), LineSet(), IdSet(), options.limit):
        if isinstance(row, BadRow):
            tally.add(failure_tally(row.code))
            if len(told) < _TOLD_ROWS:
                told.append(row.message)
        else:
            tally.succeeded += 1
    if not tally.done:
        raise no_rows(source)
    return summary_of("checked", tally, total=tally.done, problems=tuple(told))


def terms_of(source: Path, recipe: Recipe, options: BatchOptions) -> Terms:
    """What the rows of this run share. Fields of a row go over the sampling of the first writer."""
    return Terms(recipe.name, options.seed, recipe.writer_sampling[recipe.writers[0]], source.name, options.ask)
