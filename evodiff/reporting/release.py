"""Where a release stands and why, as tables for the terminal."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from rich.markup import escape
from rich.table import Table

from evodiff.deployment.release.entries import version_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LAST: Final = 8  # decisions that are shown
_ROLES: Final = ("champion", "challenger", "previous", "pending")


def release_tables(release: Mapping[str, Any], *, now: float) -> list[Table]:
    """Return the tables of what ``GET /v1/release`` answered at ``now``, in UNIX seconds."""
    return [_standing(release, now), _decisions(release)]


def _standing(release: Mapping[str, Any], now: float) -> Table:
    table = Table(title=f"Release, revision {release['revision']}", title_justify="left", show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in _rows(release, now):
        table.add_row(name, text if name == "steps" else escape(text))
    return table


def _rows(release: Mapping[str, Any], now: float) -> Iterator[tuple[str, str]]:
    held = {version: arm for arm, version in (release.get("loaded") or {}).items()}
    for role in _ROLES:
        entry = release.get(role)
        name = "-" if entry is None else version_name(entry)
        yield role, f"{name} (loaded as {held[name]})" if name in held else name
    rollout = release.get("rollout")
    if rollout is None:
        yield "rollout", "none"
    else:
        yield from _rollout_rows(release, rollout, now)
    asked = release.get("asked")
    if asked is not None:
        yield "last asked", f"{asked['run']}, generation {asked['generation']}: {asked['reason']}"
    if release.get("quarantine"):
        yield "quarantine", ", ".join(dict.fromkeys(item["version"] for item in release["quarantine"]))
    if release.get("trouble"):
        yield "trouble", str(release["trouble"])
    if release.get("last_poll_at") is not None:
        yield "last look", _ago(now - release["last_poll_at"])


def _rollout_rows(release: Mapping[str, Any], rollout: Mapping[str, Any], now: float) -> Iterator[tuple[str, str]]:
    steps = " > ".join(
        f"[bold reverse]{100 * step:g} %[/]" if index == rollout["step"] else f"{100 * step:g} %"
        for index, step in enumerate(rollout["steps"])
    )
    yield "rollout", f"{rollout['id']}, {rollout['phase']}, for {_duration(now - rollout['started_at'])}"
    yield "steps", f"{steps}, at this one for {_duration(now - rollout['step_started_at'])}"
    if rollout["paused"]:
        yield "held", "paused by a person; guards go on"
    elif rollout["waits_for"]:
        yield "held", f"waits for a person: {rollout['waits_for']}; guards go on"
    evidence = release.get("evidence")
    if evidence:
        yield "evidence", f"{evidence['verdict']}: {evidence['reason']}"
        counts = ", ".join(f"{arm} {count}" for arm, count in (evidence.get("requests") or {}).items())
        if counts:
            yield "requests", counts


def _decisions(release: Mapping[str, Any]) -> Table:
    table = Table(title="Decisions, newest first", title_justify="left")
    for column in ("", "when (UTC)", "what", "version", "weight", "by", "why"):
        table.add_column(column, overflow="fold")
    for item in reversed(release.get("decisions", ())[-LAST:]):
        when = datetime.fromtimestamp(item["at"], UTC).strftime("%m-%d %H:%M:%S")
        table.add_row(
            str(item["revision"]),
            when,
            *(escape(text) for text in (item["action"], item["version"] or "", f"{100 * item['weight']:g} %")),
            *(escape(item[name]) for name in ("by", "reason")),
        )
    return table


def _ago(seconds: float) -> str:
    return f"{_duration(seconds)} ago"


def _duration(seconds: float) -> str:
    seconds = max(0.0, seconds)
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
