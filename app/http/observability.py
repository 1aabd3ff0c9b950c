"""What operators see: one JSON log line a request with its id, and Prometheus metrics."""

import logging
import re
import time
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any, Final

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uuid_utils import uuid7

from app.http.authzen import PREFIX
from app.http.problems import failure_response, reason_of
from app.operations.obligations import ObligationFollower
from app.operations.receive import Inbox
from app.operations.shadow import Shadows
from app.operations.sign_checkpoints import Signer
from app.storage.ledger import Ledger
from app.storage.store import Store

_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_GIVEN_BACK: Final = re.compile(rb"[ -~]{1,1024}")


def configure_logging() -> None:
    """Structured JSON on standard error, one line an event; uvicorn's own lines included."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                # ASCII only, so that nothing that a caller sent can break or colour a line.
                structlog.processors.JSONRenderer(ensure_ascii=True, sort_keys=True),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = name != "uvicorn.access"


class Metrics:
    """What `/metrics` shows. One registry an application, so that two can live in one process."""

    def __init__(
        self,
        store: Store,
        shadows: Shadows,
        follower: ObligationFollower,
        inbox: Inbox,
        signer: Signer | None,
    ) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "aslgate_requests",
            "Requests answered",
            ["route", "method", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "aslgate_request_seconds",
            "Time to answer",
            ["route"],
            registry=self.registry,
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
        )
        self.registry.register(_LedgerMetrics(store.ledger))
        self.registry.register(_ExceptionMetrics(store.leaned_on))
        self.registry.register(_ShadowMetrics(shadows))
        self.registry.register(_ObligationMetrics(follower))
        self.registry.register(_InboxMetrics(inbox))
        if signer is not None:
            self.registry.register(_SignerMetrics(signer))


class _LedgerMetrics(Collector):
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def collect(self) -> Iterable[Metric]:
        ledger = self._ledger
        for name, text, value in (
            ("aslgate_ledger_size", "Entries in the ledger, as last seen here", ledger.size),
            ("aslgate_append_queued", "Requests that wait for the next commit", ledger.queued),
            ("aslgate_append_batches", "Commits since the start", ledger.batches),
            ("aslgate_append_committed", "Requests in committed batches", ledger.committed),
            ("aslgate_append_failed", "Transactions that did not commit", ledger.failed),
            ("aslgate_append_unknown", "Transactions whose outcome is not known", ledger.unknown),
            ("aslgate_ledger_halted", "1: nothing may be recorded", ledger.halted is not None),
        ):
            metric = GaugeMetricFamily(name, text)
            metric.add_metric([], value)
            yield metric


class _ExceptionMetrics(Collector):
    def __init__(self, leaned_on: Mapping[tuple[str, str], int]) -> None:
        self._leaned_on = leaned_on

    def collect(self) -> Iterable[Metric]:
        metric = CounterMetricFamily(
            "aslgate_exceptions_leaned_on",
            "Answers that lean on an exception, since the start",
            labels=["policy", "exception"],
        )
        for (policy, exception), count in self._leaned_on.items():
            metric.add_metric([policy, exception], count)
        yield metric


class _ShadowMetrics(Collector):
    def __init__(self, shadows: Shadows) -> None:
        self._shadows = shadows

    def collect(self) -> Iterable[Metric]:
        size, running = self._shadows.size, self._shadows.running
        for name, text, values in (
            ("behind", "Entries not looked at", [size - one.next for one in running]),
            ("decided", "Live answers decided again", [one.summary.decided for one in running]),
            ("same", "Of these, how many say the same", [one.summary.same for one in running]),
            ("failed", "Answers not rebuilt", [one.summary.failed for one in running]),
        ):
            described = f"{text}, by running shadow, as last seen here"
            metric = GaugeMetricFamily(
                f"aslgate_shadow_{name}", described, labels=["policy", "version"]
            )
            for one, value in zip(running, values, strict=True):
                metric.add_metric([one.policy, one.version], value)
            yield metric


class _ObligationMetrics(Collector):
    def __init__(self, follower: ObligationFollower) -> None:
        self._follower = follower

    def collect(self) -> Iterable[Metric]:
        follower = self._follower
        for name, text, value in (
            ("open", "Obligations that are not fulfilled, and not overdue", follower.open),
            ("overdue", "Obligations that are past their due", follower.overdue),
            ("behind", "Entries not read for obligations", follower.behind),
        ):
            described = f"{text}, as last seen here"
            metric = GaugeMetricFamily(f"aslgate_obligations_{name}", described)
            metric.add_metric([], value)
            yield metric


class _InboxMetrics(Collector):
    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

    def collect(self) -> Iterable[Metric]:
        for name, text, value in (
            ("waiting", "Deliveries that are still to be worked on", self._inbox.waiting),
            ("failed", "Deliveries that were given up", self._inbox.failed),
        ):
            metric = GaugeMetricFamily(f"aslgate_inbox_{name}", f"{text}, as last seen here")
            metric.add_metric([], value)
            yield metric


class _SignerMetrics(Collector):
    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    def collect(self) -> Iterable[Metric]:
        if self._signer.signed is not None:
            text = "Entries under the newest checkpoint, as last seen here"
            metric = GaugeMetricFamily("aslgate_checkpoint_size", text)
            metric.add_metric([], self._signer.signed.size)
            yield metric
        text = "Entries under the last checkpoint that the witness cosigned for this server"
        metric = GaugeMetricFamily("aslgate_witness_size", text, labels=["witness"])
        for witness, size in self._signer.cosigned.items():
            metric.add_metric([witness.key.name], size)
        yield metric


class Observed:
    """ASGI middleware: a request id, one log line, and the metrics of every request."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics
        self._log = structlog.get_logger("aslgate.request")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and say afterwards what became of it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id, given_back = _request_id(scope), _given_back(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        status = 0
        begun = time.monotonic()

        async def observed_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [
                    *message.get("headers", []),
                    (b"x-request-id", given_back or request_id.encode()),
                    # What somebody wrote into a record is never to be guessed to be a page.
                    (b"x-content-type-options", b"nosniff"),
                ]
                message = {**message, "headers": headers}
            await send(message)

        try:
            await self._app(scope, receive, observed_send)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is logged and answered
            self._log.error("request failed", exc_info=error)
            if not status:
                await failure_response(request_id)(scope, receive, observed_send)
        finally:
            self._say(scope, status, time.monotonic() - begun)

    def _say(self, scope: MutableMapping[str, Any], status: int, seconds: float) -> None:
        # The route's template, never the path: a path would make a metric for every model.
        route = getattr(scope.get("route"), "path", "unmatched")
        self._metrics.requests.labels(route, scope["method"], str(status or 499)).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        if route in ("/healthz", "/readyz", "/metrics") and status == 200:
            return
        refusal = scope.get("state", {}).get("refusal")
        self._log.info(
            "request",
            method=scope["method"],
            path=scope["path"],
            route=route,
            status=status,
            seconds=round(seconds, 6),
            operation=getattr(scope.get("route"), "name", None),
            **({} if refusal is None else reason_of(refusal)),
        )


def _request_id(scope: Scope) -> str:
    """The caller's `X-Request-Id` where it is a plain word, else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return str(value.decode())
    return f"req_{uuid7().hex}"


def _given_back(scope: Scope) -> bytes | None:
    """The caller's `X-Request-Id` as AuthZEN wants it back, as it came; the log has one of ours where it
    is no plain word.
    """
    if scope["path"].startswith(f"{PREFIX}/"):
        for name, value in scope["headers"]:
            if name == b"x-request-id" and _GIVEN_BACK.fullmatch(value):
                return bytes(value)
    return None
