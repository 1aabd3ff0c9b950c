"""`aslgate audit`: a program of its own that keeps verifying and replaying, and tells its findings.

It reads the database by a way on which nothing can be written, so it may run anywhere, as a role
that may only read, and without the service.
"""

import asyncio
import contextlib
import json
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    start_http_server,
    write_to_textfile,
)

from app.cli import serving
from app.cli.ledger import (
    Kept,
    LedgerKey,
    audited,
    print_report,
    report_fields,
    swept,
    trusted_of,
)
from app.cli.serve import DatabaseUrl, DataDir
from app.cli.service import FAILED, USAGE, Json, fail, print_line
from app.errors import Unavailable
from app.operations.audit import Report, Sweep, Trusted
from app.storage.database import Database

NEWLY_RECORDED_SECONDS: Final = 10.0
"""How often what was newly recorded is looked at."""


class Told:
    """The figures that an operator watches, of the last sweep that says more."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._verified = self._gauge(
            "verified_ratio", "Share of the ledger's entries that were looked at and are sound"
        )
        self._entries = self._gauge("entries", "Entries in the ledger")
        self._oldest = self._gauge(
            "oldest_unverified_timestamp_seconds",
            "When the first entry was recorded of which it is not known that it is sound; 0: none",
        )
        self._findings = self._gauge("findings", "What is wrong, in the last sweep")
        self._replayed = self._gauge("replayed", "Answers recomputed in the last sweep")
        self._checkpoint = self._gauge(
            "checkpoint_size", "Size of the last checkpoint that the tree agrees with"
        )
        self._last = self._gauge(
            "last_pass_timestamp_seconds", "When the ledger was last looked at to its end"
        )
        self._failed = Counter(
            "aslgate_audit_failed", "Passes that could not be made", registry=self.registry
        )

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"aslgate_audit_{name}", text, registry=self.registry)

    def tell(self, report: Report, now: datetime) -> None:
        """Show how the sweep stands."""
        self._verified.set(report.verified / report.size if report.size else 1)
        self._entries.set(report.size)
        self._oldest.set(0 if report.since is None else report.since.timestamp())
        self._findings.set(len(report.findings))
        self._replayed.set(report.replayed)
        self._checkpoint.set(report.agreed)
        self._last.set(now.timestamp())

    def tell_failure(self) -> None:
        """A pass could not be made: the other figures are those of the one before."""
        self._failed.inc()


def audit(
    once: Annotated[bool, typer.Option("--once", help="One sweep, and end.")] = False,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Serve metrics on this port.")
    ] = None,
    host: Annotated[str, typer.Option(help="With --port: the address to serve on.")] = "127.0.0.1",
    metrics_file: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Write metrics into this file.")
    ] = None,
    every: Annotated[
        float, typer.Option(min=1, help="Begin again from the first entry after so many seconds.")
    ] = 3600.0,
    kept: Kept = None,
    ledger_key: LedgerKey = None,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Verify the whole ledger and recompute every answer, again and again; what is newly recorded,
    every ten seconds.

    Exit code 0 where nothing was found, 1 with findings.
    """
    if database_url is not None and data_dir is not None:
        fail("give --database-url or --data-dir, not both", USAGE)
    trusted, told = trusted_of(kept, ledger_key), Told()

    def tell(report: Report | None) -> None:
        if report is None:
            told.tell_failure()
        else:
            told.tell(report, datetime.now(UTC))
        if metrics_file is not None:
            write_to_textfile(str(metrics_file), told.registry)

    clean = True
    with serving.stopped_by_signals(), audited(database_url, data_dir) as database:
        if port is not None:
            start_http_server(port, addr=host, registry=told.registry)
        if once:
            sweep = Sweep(database, replays=True, trusted=trusted)
            report, seconds = asyncio.run(swept(database, sweep))
            tell(report)
            _say(report, seconds, as_json)
            clean = report.is_clean
        else:
            said = _Said(as_json)
            with contextlib.suppress(KeyboardInterrupt, SystemExit):
                asyncio.run(_keep_on(database, trusted, every, tell, said))
            clean = not said.findings
    if not clean:
        raise typer.Exit(FAILED)


class _Said:
    """Says each finding once, however often it is found."""

    def __init__(self, as_json: bool) -> None:
        self.findings: set[str] = set()
        self._as_json = as_json

    def say(self, report: Report) -> None:
        for one in report.findings:
            place = "" if one.index is None else f"entry {one.index}: "
            if (text := f"{place}{one.what}") not in self.findings:
                self.findings.add(text)
                fields = {"index": one.index, "what": one.what}
                print_line(json.dumps(fields) if self._as_json else text)


async def _keep_on(
    database: Database,
    trusted: Trusted,
    every: float,
    tell: Callable[[Report | None], None],
    said: _Said,
) -> None:
    """Sweep, go on where the ledger has grown, and from time to time sweep anew. A database that is
    away is waited for.
    """
    first: Sweep | None
    first = sweep = Sweep(database, replays=True, trusted=trusted)
    begun = time.monotonic()

    def told(_done: int, _of: int) -> None:
        # Until all was looked at once, it is shown how far that is.
        if sweep is first:
            tell(sweep.so_far())

    try:
        while True:
            try:
                report = await sweep.go_on(told)
            except Unavailable:
                tell(None)
                begun = -math.inf
            else:
                said.say(report)
                tell(report)
                first = None
            await asyncio.sleep(min(NEWLY_RECORDED_SECONDS, every))
            if time.monotonic() - begun >= every:
                sweep, begun = Sweep(database, replays=True, trusted=trusted), time.monotonic()
                first = first and sweep
    finally:
        await database.close()


def _say(report: Report, seconds: float, as_json: bool) -> None:
    if as_json:
        print_line(json.dumps(report_fields(report) | {"seconds": round(seconds, 3)}))
    else:
        print_report(report, seconds)
