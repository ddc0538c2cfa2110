"""Where votes are kept: one SQLite file, written by the router and read by whoever joins them to a search.

Several threads and processes may use it at once (WAL). It is bounded: the oldest votes go when there are too many, and
each source has so many a day, so that nobody can push out the others' in a hurry.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import sqlite3
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from evodiff.deployment.feedback.votes import Vote, VoteKind
from evodiff.errors import EvodiffError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

SCHEMA_VERSION: Final = 1
DAY_SECONDS: Final = 86400.0

_SCHEMA = """
CREATE TABLE secret (salt TEXT NOT NULL);
CREATE TABLE votes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    rater TEXT NOT NULL, source TEXT NOT NULL, subject TEXT NOT NULL, kind TEXT NOT NULL, version TEXT NOT NULL,
    at REAL NOT NULL, value REAL, other TEXT NOT NULL, text TEXT NOT NULL, arm TEXT NOT NULL, rollout TEXT NOT NULL,
    UNIQUE (rater, subject, kind)
);
CREATE INDEX votes_of_source ON votes (source, at);
CREATE TABLE comparisons (
    id TEXT PRIMARY KEY, source TEXT NOT NULL, left_version TEXT NOT NULL, right_version TEXT NOT NULL,
    image TEXT NOT NULL, at REAL NOT NULL
);
CREATE INDEX comparisons_by_age ON comparisons (at);
CREATE INDEX comparisons_of_source ON comparisons (source, at);
CREATE TABLE production (version TEXT PRIMARY KEY, content TEXT NOT NULL, at REAL NOT NULL);
"""
_COLUMNS = "rater, source, subject, kind, version, at, value, other, text, arm, rollout"
_SHOWN = "id, source, left_version, right_version, image, at"


class AlreadyVoted(EvodiffError):  # noqa: N818 - an answer, not a fault
    """This rater has voted on this request before; the first vote stands."""


class TooManyVotes(EvodiffError):  # noqa: N818 - an answer, not a fault
    """This source has had its votes of the day."""


class UnknownComparison(EvodiffError):  # noqa: N818 - an answer, not a fault
    """No such comparison waits for a vote: it was never shown, or too long ago."""


class StoreUnavailable(EvodiffError):  # noqa: N818 - a state of the world, not a fault of the call
    """The file of votes cannot be read or written now; what was kept before stays."""


@dataclass(frozen=True)
class StoreLimits:
    """How much is kept: ``votes`` in all, ``votes_a_day`` of a source, ``comparisons`` shown and not voted on, in all
    and ``comparisons_of_source``; ``versions`` whose production is on record."""

    votes: int = 200_000
    votes_a_day: int = 200
    comparisons: int = 10_000
    comparisons_of_source: int = 50
    versions: int = 1000


@dataclass(frozen=True)
class Comparison:
    """Two versions as they were shown to a source side by side; ``image`` names what both were asked to draw."""

    id: str
    source: str
    left: str
    right: str
    image: str
    at: float


class FeedbackStore:
    """The votes of a service; every call raises :class:`StoreUnavailable` where the file cannot be read or written.

    Args:
        path: the file, made where there is none.
        limits: how much is kept.
        wait_seconds: for others that hold the file, a thread or a process, before a call gives up.

    Raises:
        StoreUnavailable: the file cannot be opened, or is no store.
        EvodiffError: it was written by a newer version.
    """

    def __init__(self, path: Path | str, limits: StoreLimits = StoreLimits(), *, wait_seconds: float = 10.0) -> None:
        self.path = Path(path)
        self.limits = limits
        self._lock = threading.Lock()
        self._wait_seconds = wait_seconds
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                self.path, timeout=wait_seconds, isolation_level=None, check_same_thread=False
            )
            try:
                self._salt = self._prepare()
            except BaseException:
                self._connection.close()
                raise
        except (OSError, sqlite3.Error) as error:
            raise StoreUnavailable(
                f"Cannot open the votes in {self.path}: {error}.",
                remedy="Make the folder writable, or move a damaged file away: votes are collected anew.",
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def pseudonym(self, name: str) -> str:
        """Return what stands for a person or an address: always the same here, and told by nobody else."""
        return hmac.new(self._salt.encode(), name.encode(errors="surrogateescape"), hashlib.sha256).hexdigest()[:24]

    def add(self, vote: Vote) -> None:
        """Keep a vote.

        Raises:
            AlreadyVoted: the rater has one of this kind on this subject.
            TooManyVotes: the source has had its votes of the day.
        """
        with self._writing() as database:
            self._add(database, vote)

    def show(self, comparison: Comparison) -> None:
        """Remember what is shown, so that a vote on it can be told from one on what never was."""
        limits = self.limits
        with self._writing() as database:
            values = (
                comparison.id,
                comparison.source,
                comparison.left,
                comparison.right,
                comparison.image,
                comparison.at,
            )
            database.execute(f"INSERT INTO comparisons ({_SHOWN}) VALUES (?, ?, ?, ?, ?, ?)", values)  # noqa: S608
            database.execute(
                "DELETE FROM comparisons WHERE id IN "
                "(SELECT id FROM comparisons WHERE source = ? ORDER BY at DESC, id LIMIT -1 OFFSET ?)",
                (comparison.source, limits.comparisons_of_source),
            )
            database.execute(
                "DELETE FROM comparisons WHERE id IN "
                "(SELECT id FROM comparisons ORDER BY at DESC, id LIMIT -1 OFFSET ?)",
                (limits.comparisons,),
            )

    def shown(self, comparison: str) -> Comparison | None:
        """Return a comparison that waits for its vote, None where it does not."""
        with self._held() as database:
            return _shown(database, comparison)

    def decide(self, comparison: str, rater: str, left_share: float, at: float) -> Vote:
        """Keep the vote on a comparison that was shown, once; ``left_share`` is 1 where the left is better, 0, or .5.

        Raises:
            UnknownComparison: it was not shown, was voted on, or was shown too long ago.
            TooManyVotes: the source has had its votes of the day.
        """
        with self._writing() as database:
            shown = _shown(database, comparison)
            if shown is None:
                raise UnknownComparison(
                    "No such comparison waits for a vote: it was voted on before, or was shown long ago.",
                    remedy="Ask for the next one.",
                )
            vote = Vote(
                rater,
                shown.source,
                shown.id,
                VoteKind.COMPARISON,
                version=shown.left,
                other=shown.right,
                value=left_share,
                at=at,
            )
            self._add(database, vote)
            database.execute("DELETE FROM comparisons WHERE id = ?", (comparison,))
        return vote

    def votes(self) -> list[Vote]:
        """Return every vote, in the order in which they came."""
        with self._held() as database:
            rows = database.execute(f"SELECT {_COLUMNS} FROM votes ORDER BY id").fetchall()  # noqa: S608
        return [
            Vote(
                rater=row[0],
                source=row[1],
                subject=row[2],
                kind=VoteKind(row[3]),
                version=row[4],
                at=row[5],
                value=row[6],
                other=row[7],
                text=row[8],
                arm=row[9],
                rollout=row[10],
            )
            for row in rows
        ]

    def record_production(self, version: str, metrics: Mapping[str, Any], at: float) -> None:
        """Keep what was measured of a version in production, instead of what was before; the last ones stay."""
        content = json.dumps(metrics, sort_keys=True, allow_nan=False)
        with self._writing() as database:
            database.execute("INSERT OR REPLACE INTO production VALUES (?, ?, ?)", (version, content, at))
            database.execute(
                "DELETE FROM production WHERE version IN "
                "(SELECT version FROM production ORDER BY at DESC, version LIMIT -1 OFFSET ?)",
                (self.limits.versions,),
            )

    def production(self) -> dict[str, dict[str, Any]]:
        """Return what was measured last of every version, by RUN/ID."""
        with self._held() as database:
            rows = database.execute("SELECT version, content FROM production ORDER BY version").fetchall()
        return {version: json.loads(content) for version, content in rows}

    def _add(self, database: sqlite3.Connection, vote: Vote) -> None:
        count = "SELECT COUNT(*) FROM votes WHERE source = ? AND at > ?"
        (cast,) = database.execute(count, (vote.source, vote.at - DAY_SECONDS)).fetchone()
        if cast >= self.limits.votes_a_day:
            raise TooManyVotes(
                f"Expected at most {self.limits.votes_a_day} votes a day from one place, found one more.",
                remedy="Go on tomorrow.",
            )
        values = [vote.rater, vote.source, vote.subject, vote.kind.value, vote.version, vote.at, vote.value]
        values += [vote.other, vote.text, vote.arm, vote.rollout]
        try:
            added = database.execute(f"INSERT INTO votes ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?)", values)  # noqa: S608
        except sqlite3.IntegrityError as error:
            raise AlreadyVoted(
                "Expected one vote on each request, found a second one; the first stands.", remedy="Vote on another."
            ) from error
        database.execute("DELETE FROM votes WHERE id <= ?", ((added.lastrowid or 0) - self.limits.votes,))

    @contextmanager
    def _held(self) -> Iterator[sqlite3.Connection]:
        """Have the connection for this thread alone.

        Raises:
            StoreUnavailable: other threads have it for too long, or SQLite fails.
        """
        if not self._lock.acquire(timeout=self._wait_seconds):
            raise self._unavailable("others hold it")
        try:
            yield self._connection
        except sqlite3.Error as error:
            raise self._unavailable(str(error)) from error
        finally:
            self._lock.release()

    def _unavailable(self, why: str) -> StoreUnavailable:
        return StoreUnavailable(
            f"The votes in {self.path} cannot be read or written now: {why}.",
            remedy="Try again in a moment; if it stays, free space on the disk, end what locks the file, or move a "
            "damaged one away.",
        )

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Hold the file for a transaction; an error in it, or at its end, takes all of it back."""
        with self._held() as database:
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
                database.execute("COMMIT")
            except BaseException:
                if database.in_transaction:  # a full disk may have made SQLite take it back already
                    database.execute("ROLLBACK")
                raise

    def _prepare(self) -> str:
        """Make the tables where there are none; return the salt of pseudonyms."""
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")  # a power cut may take the last votes, nothing else
        with self._writing() as database:
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if version == 0:
                for statement in filter(str.strip, _SCHEMA.split(";")):
                    database.execute(statement)
                database.execute("INSERT INTO secret VALUES (?)", (secrets.token_hex(32),))
                database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            elif version != SCHEMA_VERSION:
                raise EvodiffError(
                    f"{self.path}: expected votes of schema {SCHEMA_VERSION}, found {version}.",
                    remedy="Open it with the version of evodiff that wrote it.",
                )
            (salt,) = database.execute("SELECT salt FROM secret").fetchone()
        self.path.chmod(0o600)
        return str(salt)


def _shown(database: sqlite3.Connection, comparison: str) -> Comparison | None:
    row = database.execute(f"SELECT {_SHOWN} FROM comparisons WHERE id = ?", (comparison,)).fetchone()  # noqa: S608
    return None if row is None else Comparison(*row)
