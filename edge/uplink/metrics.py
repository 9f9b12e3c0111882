"""The uplink's figures: counted in one place, told in two, in the status document and to Prometheus.

The service makes a :class:`Figures` twice a second. Its :meth:`Figures.document` is ``uplink`` in the status document,
and :class:`MetricsPage` serves the same object at ``http://127.0.0.1:<port>/metrics``, to this computer only: who
scrapes from elsewhere goes through a reverse proxy or an agent of their own, with their own permissions.

What is not known is null in the document and absent from the metrics page: a zero would look like a measured one.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from socketserver import TCPServer, ThreadingMixIn
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

if TYPE_CHECKING:
    from prometheus_client import Metric

HOST: Final = "127.0.0.1"
PREFIX: Final = "tipguard_"
_POLL_S: Final = 0.05
"""How soon the page notices that it is to end."""


@dataclass(frozen=True, slots=True)
class StoreFigures:
    """How far one store is behind this rig."""

    waiting: int
    """Frames in the outbox that it has not committed, as far as its watermark says."""
    lag_s: float
    """Age of the oldest of them, s; 0 when it has everything."""
    heard_s: float | None = None
    """Since its last watermark, s; None when none has come since the uplink's start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What the uplink can say of itself in numbers, at one moment. Counters count from the uplink's start."""

    connected: bool = False
    """To the broker."""
    worker_state: str | None = None
    """The controller's state; None when it does not answer."""
    ring_used: float | None = None
    """0..1; None when there is no ring."""
    waiting: int = 0
    """Frames that no broker has acknowledged."""
    published: int = 0
    """Messages acknowledged, of all kinds, repetitions included."""
    no_subscriber: int = 0
    """Of these, acknowledged with the remark that no subscription matched."""
    refused: int = 0
    redriven: int = 0
    """Frames sent again because a store does not have them."""
    dropped: int = 0
    """Samples that no frame could take."""
    skipped_bytes: int = 0
    """Of a damaged ring."""
    outbox_frames: int | None = None
    outbox_bytes: int | None = None
    outbox_oldest_s: float | None = None
    """Age of the oldest frame that not every store has, s; None when there is none."""
    outbox_budget_used: float | None = None
    """Bytes of frames over the configured budget."""
    outbox_commits: int | None = None
    outbox_written_bytes: int | None = None
    """Handed to the disk: what wears an SD card."""
    outbox: Mapping[str, Any] | None = None
    """What else the outbox says of itself, in words and numbers."""
    stores: Mapping[str, StoreFigures] = field(default_factory=dict)
    """By name, those that must have a frame before it is deleted."""
    commands: Mapping[str, Any] | None = None
    """From the broker: ``relayed``, ``unanswered``, and ``refused`` here, by reason."""
    certificate: Mapping[str, Any] | None = None
    """Of this client: ``days_left`` and more; None without TLS."""
    flight_missed: int = 0
    """Ring records that the flight record does not have."""
    fault: str | None = None
    """What keeps frames from going out, in words."""
    flight_fault: str | None = None
    metrics_fault: str | None = None
    """Why nobody can scrape, although a port is configured."""

    def document(self) -> dict[str, Any]:
        """Return what the status document says under ``uplink``."""
        return {
            **{one.name: getattr(self, one.name) for one in dataclasses.fields(self)},
            "stores": {name: dataclasses.asdict(store) for name, store in self.stores.items()},
        }


class _Row(NamedTuple):
    """One metric: which number of the document it shows, under which name. Base units, as there."""

    path: str
    """In the document, with dots."""
    name: str
    counter: bool
    help: str


ROWS: Final = (
    _Row("connected", "broker_connected", False, "1 while the uplink is connected to its broker."),
    _Row("ring_used", "ring_used_ratio", False, "Share of the ring in use; plans wait from 0.8 on."),
    _Row("waiting", "frames_waiting", False, "Frames that no broker has acknowledged."),
    _Row("published", "published", True, "Messages acknowledged by the broker, repetitions included."),
    _Row("no_subscriber", "no_subscriber", True, "Messages acknowledged that matched no subscription."),
    _Row("refused", "refused", True, "Messages that the broker refused."),
    _Row("redriven", "redriven", True, "Frames sent again because a store does not have them."),
    _Row("dropped", "samples_dropped", True, "Samples that no frame could take."),
    _Row("skipped_bytes", "ring_skipped_bytes", True, "Bytes of a damaged ring that were passed over."),
    _Row("outbox_frames", "outbox_frames", False, "Frames in the outbox."),
    _Row("outbox_bytes", "outbox_bytes", False, "Bytes of the frames in the outbox."),
    _Row("outbox_oldest_s", "outbox_oldest_seconds", False, "Age of the oldest frame that not every store has."),
    _Row("outbox_budget_used", "outbox_budget_used_ratio", False, "Share of [outbox].budget_bytes in use."),
    _Row("outbox_commits", "outbox_commits", True, "Commits of the outbox."),
    _Row("outbox.syncs", "outbox_syncs", True, "Flushes to the disk for the outbox."),
    _Row("outbox_written_bytes", "outbox_written_bytes", True, "Bytes the outbox has handed to the disk."),
    _Row("outbox.thinned", "thinned_frames", True, "Sample frames replaced by tombstones for want of room."),
    _Row("outbox.declared_lost", "declared_lost_frames", True, "Lost frames that tombstones stand for."),
    _Row(
        "outbox.unaccounted", "unaccounted_frames", False, "Frames that are not here; whether a store has them is open."
    ),
    _Row("outbox.of_unknown_epochs", "unknown_epoch_frames", False, "Frames a store lacks of epochs unknown here."),
    _Row("outbox.marks_refused", "marks_refused", True, "Watermarks that cannot be true, or of an unknown store."),
    _Row("commands.relayed", "commands_relayed", True, "Commands that the controller answered, whatever it said."),
    _Row("commands.unanswered", "commands_unanswered", True, "Commands that the controller did not answer."),
    _Row("certificate.days_left", "certificate_days", False, "Days until the client certificate expires."),
    _Row("flight_missed", "flight_missed_records", True, "Ring records that the flight record does not have."),
)
STORE_ROWS: Final = (
    _Row("waiting", "store_waiting_frames", False, "Frames in the outbox that this store has not committed."),
    _Row("lag_s", "store_lag_seconds", False, "Age of the oldest frame that this store has not committed."),
    _Row("heard_s", "store_watermark_age_seconds", False, "Time since this store's last watermark."),
)
REFUSED: Final = _Row("commands.refused", "commands_refused", True, "Commands that the uplink refused, by reason.")
WORDS: Final = (
    "fault",
    "outbox.fault",
    "outbox.alarm",
    "outbox.watermark_fault",
    "outbox.quarantined",
    "certificate.fault",
    "flight_fault",
    "metrics_fault",
)
"""Fields in words; as a metric each is 0 or 1, the words stand in the status document."""


def at(document: Mapping[str, Any], path: str) -> Any:  # noqa: ANN401 - numbers, words, null
    """Return what stands at ``path``; None, too, where a part of the way is null."""
    name, _, rest = path.partition(".")
    found = document[name]
    return found if not rest or found is None else at(found, rest)


class _Collector:
    """Turns the latest figures into metrics at each scrape; called from the server's threads."""

    def __init__(self, rig: str, read: Callable[[], tuple[Figures, float]]) -> None:
        self._rig = rig
        self._read = read

    def describe(self) -> Iterable[Metric]:
        """Nothing is known before the first scrape."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield every metric whose value is known."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        figures, age_s = self._read()
        document = figures.document()
        for row in ROWS:
            if (value := at(document, row.path)) is not None:
                family = CounterMetricFamily if row.counter else GaugeMetricFamily
                metric = family(PREFIX + row.name, row.help, labels=["rig"])
                metric.add_metric([self._rig], float(value))
                yield metric
        for row in STORE_ROWS:
            metric = GaugeMetricFamily(PREFIX + row.name, row.help, labels=["rig", "store"])
            for name, store in document["stores"].items():
                if (value := store[row.path]) is not None:
                    metric.add_metric([self._rig, name], float(value))
            yield metric
        if (reasons := at(document, REFUSED.path)) is not None:
            refused = CounterMetricFamily(PREFIX + REFUSED.name, REFUSED.help, labels=["rig", "reason"])
            for reason, count in reasons.items():
                refused.add_metric([self._rig, reason], float(count))
            yield refused
        faults = GaugeMetricFamily(PREFIX + "fault", "1 where the status document names one.", labels=["rig", "what"])
        for name in WORDS:
            faults.add_metric([self._rig, name], float(at(document, name) is not None))
        yield faults
        state = GaugeMetricFamily(PREFIX + "worker_state", "1 for the controller's state.", labels=["rig", "state"])
        answers = GaugeMetricFamily(PREFIX + "worker_answers", "1 while the controller answers.", labels=["rig"])
        answers.add_metric([self._rig], float(figures.worker_state is not None))
        if figures.worker_state is not None:
            state.add_metric([self._rig, figures.worker_state], 1.0)
        yield from (answers, state)
        # Served by a thread of its own, old figures would look fresh while the uplink hangs.
        age = GaugeMetricFamily(PREFIX + "figures_age_seconds", "Since these figures were made.", labels=["rig"])
        age.add_metric([self._rig], age_s)
        yield age


class _Handler(WSGIRequestHandler):
    """One scrape. Not logged, and not waited for longer than a scrape takes."""

    timeout = 10

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        """Take the port, without asking a name server what this computer is called: there may be none that answers."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.server_address[1]
        self.setup_environ()


class MetricsPage:
    """The latest figures at ``http://127.0.0.1:<port>/metrics``; a port that is taken is said, and no reason to end."""

    def __init__(self, rig: str, port: int | None, *, now_ns: Callable[[], int]) -> None:
        """Serve nothing yet, and never with ``port`` None. ``now_ns`` is called from other threads, too."""
        self.fault: str | None = None
        """Why nobody can scrape; None when somebody can, or no port was asked for."""
        self._rig = rig
        self._port = port
        self._now_ns = now_ns
        self._shown: tuple[Figures, int] = (Figures(), now_ns())
        self._server: WSGIServer | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Begin to serve."""
        if self._port is None:
            return self
        # Loaded here: it costs memory that a rig without the page need not spend.
        from prometheus_client import CollectorRegistry, make_wsgi_app

        registry = CollectorRegistry()
        registry.register(_Collector(self._rig, self._read))
        try:
            self._server = make_server(HOST, self._port, make_wsgi_app(registry), _Server, _Handler)
        except OSError as error:
            self.fault = f"metrics port {self._port}: {error.strerror}; name another in [uplink].metrics_port"
            return self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(_POLL_S,), name="metrics", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        """End, and give the port back."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
            self._server = None

    def show(self, figures: Figures) -> None:
        """Serve these from now on."""
        # One assignment: a scrape sees the old pair or the new one.
        self._shown = (figures, self._now_ns())

    def _read(self) -> tuple[Figures, float]:
        figures, shown_ns = self._shown
        return figures, (self._now_ns() - shown_ns) / 1e9
