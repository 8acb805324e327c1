"""`local-fusion models`: what models.yaml holds, and what each model lacks on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from local_fusion.cli.options import ConfigOption

if TYPE_CHECKING:
    from local_fusion.config import Config


def models(
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    digest: Annotated[bool, typer.Option("--digest", help="Read the weights and print their digests.")] = False,
) -> None:
    """List models and fusions, and say what is missing on this machine."""
    from local_fusion.config import load_config

    loaded = load_config(config)
    rows = [_row(loaded, name, digest) for name in loaded.models]
    fusions = [_fusion(loaded, name) for name in loaded.fusions]
    if as_json:
        typer.echo(json.dumps({"source": str(loaded.source), "models": rows, "fusions": fusions}, indent=2))
        return
    _print(loaded, rows, fusions)


def schema() -> None:
    """Print the JSON schema of models.yaml."""
    from local_fusion.config.editor import editor_schema

    typer.echo(json.dumps(editor_schema(), indent=1, ensure_ascii=False))


def _row(config: Config, name: str, digest: bool) -> dict[str, Any]:
    from local_fusion.config.load import gpus_wanted
    from local_fusion.errors import UserError

    settings = config.models[name]
    row: dict[str, Any] = {
        "model": name,
        "engine": settings.engine,
        "gpus": gpus_wanted(settings) * settings.replicas,
        "replicas": settings.replicas,
        "licence": settings.licence,
        "missing": config.missing(name),
    }
    if settings.engine == "scripted" or row["missing"]:
        return row
    from local_fusion.engines.model_files import check_model
    from local_fusion.engines.model_files import digest as digest_of

    folder = config.folder(name)
    try:
        check_model(settings if digest else settings.model_copy(update={"digest": None}), folder)
    except UserError as problem:
        row["missing"] = problem.message
        return row
    row["architecture"] = (json.loads((folder / "config.json").read_text()).get("architectures") or ["?"])[0]
    row["bytes"] = sum(path.stat().st_size for path in Path(folder).glob("*.safetensors"))
    if digest:
        row["digest"] = digest_of(folder)
    return row


def _fusion(config: Config, name: str) -> dict[str, Any]:
    settings = config.fusions[name]
    lacking = [model for model in settings.models if config.missing(model)]
    return {
        "fusion": name,
        "default": name == config.default,
        "mode": settings.mode,
        "panel": [
            f"{member.model} x{member.samples}" if member.samples > 1 else member.model for member in settings.panel
        ],
        "judge": settings.judge_name,
        "writer": list(settings.writer_names),
        "lacking": lacking,
    }


def _print(config: Config, rows: list[dict[str, Any]], fusions: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    table = Table(title=f"Models of {escape(str(config.source))}", title_justify="left", box=None, pad_edge=False)
    for column in ("model", "architecture", "size", "GPUs", "licence", "on this machine"):
        table.add_column(column, overflow="fold")
    for row in rows:
        state = "[red]missing" if row["missing"] else "[green]ready"
        size = f"{row['bytes'] / 1e6:,.1f} MB" if "bytes" in row else ""
        table.add_row(
            escape(row["model"]),
            escape(str(row.get("architecture", row["engine"]))),
            size,
            f"{row['gpus']:g}",
            escape(row["licence"] or "not stated"),
            state,
        )
    console.print(table)
    for row in rows:
        if row["missing"]:
            console.print(f"[red]{row['model']}[/]: {escape(row['missing'])}", soft_wrap=True)
        if "digest" in row:
            console.print(f"{row['model']}: {row['digest']}", soft_wrap=True)
    console.print()
    table = Table(title="Fusions", title_justify="left", box=None, pad_edge=False)
    for column in ("fusion", "mode", "panel", "judge", "writer", "on this machine"):
        table.add_column(column, overflow="fold")
    for row in fusions:
        state = f"[red]lacks {', '.join(row['lacking'])}" if row["lacking"] else "[green]ready"
        name = f"{row['fusion']} [bold](default)" if row["default"] else row["fusion"]
        table.add_row(name, row["mode"], ", ".join(row["panel"]), row["judge"], ", ".join(row["writer"]), state)
    console.print(table)
