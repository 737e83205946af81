"""Connections to Postgres: a bounded number with pinned plans, and the one place where driver errors are translated.

Every statement here works on id lists and finds its rows by index. A planner with stale statistics would now and
then prefer a scan or a hash join (seen: 70 times slower), so those are switched off for these connections.
"""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from urllib.parse import urlsplit

import asyncpg

from dispatchd.adapters.postgres.queries import Query
from dispatchd.application.ports import BatchRejected, DatabaseMisconfigured, DatabaseUnavailable, TransientConflict

STATEMENT_TIMEOUT = timedelta(seconds=2)
LOCK_TIMEOUT = timedelta(milliseconds=150)
CONNECT_TIMEOUT = timedelta(seconds=2)

_PINNED_PLANS = {
    "plan_cache_mode": "force_generic_plan",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_seqscan": "off",
    "jit": "off",
}

Record = asyncpg.Record
_DATA_EXCEPTION = "22000"
_LOST = (TimeoutError, OSError, asyncpg.InterfaceError, asyncpg.InternalClientError)
_BROKEN = (*_LOST, asyncio.CancelledError)
"""After these the state of a connection is unknown."""


class Connection:
    """One connection, for statements by name. Not shared between tasks."""

    def __init__(self, raw: "asyncpg.Connection[Record]") -> None:
        self._raw = raw

    async def rows(self, query: Query, **values: object) -> list[Record]:
        """Runs a statement and returns its rows."""
        return await self._raw.fetch(query.sql, *query.arguments(values))

    async def row(self, query: Query, **values: object) -> Record | None:
        """Runs a statement and returns its first row."""
        return await self._raw.fetchrow(query.sql, *query.arguments(values))

    async def begin(self) -> None:
        await self._raw.execute("begin")

    async def commit(self) -> None:
        await self._raw.execute("commit")

    async def roll_back(self) -> None:
        await self._raw.execute("rollback")

    async def run(self, query: Query, **values: object) -> None:
        """Runs a statement for its effect."""
        await self._raw.execute(query.sql, *query.arguments(values))


class Database:
    """At most `connections` connections, made when they are needed and kept.

    A connection whose statement failed for reasons of the network or a timeout is thrown away, never reused. Nothing
    here changes the state of a session, so that between two uses it needs no reset; the driver's own pool, which is
    made for users who do, takes a third of the client's time for a short statement.
    """

    def __init__(
        self,
        url: str,
        *,
        connections: int,
        application_name: str,
        on_failure: Callable[[], None] = lambda: None,
        statement_timeout: timedelta = STATEMENT_TIMEOUT,
    ) -> None:
        self._url = url
        self._application_name = application_name
        self._on_failure = on_failure
        self._statement_timeout = statement_timeout
        self._idle: list[asyncpg.Connection[Record]] = []
        """The one used last is lent next: its caches are warm."""
        self._lendable = asyncio.Semaphore(connections)
        self._is_open = False
        self.last_failure_at: float | None = None
        """`time.monotonic()` of the last failure to reach the database."""

    async def __aenter__(self) -> "Database":
        self._is_open = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self._is_open = False
        idle, self._idle = self._idle, []
        await asyncio.gather(*(_close(raw) for raw in idle))

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lends a connection; each statement commits by itself. All in all, the wait for a connection included, it may
        take as long as one statement may.

        Raises DatabaseUnavailable, TransientConflict or BatchRejected in place of the driver's errors.
        """
        try:
            with translated():
                async with asyncio.timeout(self._statement_timeout.total_seconds()), self._lendable:
                    if not self._is_open:
                        raise RuntimeError("the database is used while it is not open")
                    raw = self._take_idle() or await self._connect()
                    try:
                        yield Connection(raw)
                    except _BROKEN:
                        raw.terminate()
                        raise
                    finally:
                        if self._is_open and not raw.is_closed() and not raw.is_in_transaction():
                            self._idle.append(raw)
                        else:
                            raw.terminate()
        except DatabaseUnavailable as exc:
            self.last_failure_at = time.monotonic()
            self._on_failure()
            if isinstance(exc.__cause__, _LOST):
                # Those that lie idle are as likely cut off, and each would cost somebody a timeout to find out.
                while self._idle:
                    self._idle.pop().terminate()
            raise

    def _take_idle(self) -> "asyncpg.Connection[Record] | None":
        while self._idle:
            raw = self._idle.pop()
            if not raw.is_closed():
                return raw
        return None

    async def _connect(self) -> "asyncpg.Connection[Record]":
        timeout_ms = round(self._statement_timeout.total_seconds() * 1000)
        url = self._url
        try:
            return await asyncpg.connect(
                url,
                command_timeout=self._statement_timeout.total_seconds() + 0.5,
                timeout=CONNECT_TIMEOUT.total_seconds(),
                max_cached_statement_lifetime=0,
                server_settings={
                    "application_name": self._application_name,
                    "statement_timeout": str(timeout_ms),
                    "lock_timeout": str(round(LOCK_TIMEOUT.total_seconds() * 1000)),
                    "idle_in_transaction_session_timeout": str(timeout_ms),
                    "timezone": "UTC",
                    **_PINNED_PLANS,
                },
            )
        except asyncpg.PostgresError as exc:
            if isinstance(_translate(exc), BatchRejected):
                # No statement was sent yet: a parameter in the address is unknown, or the database closed to this user.
                raise DatabaseMisconfigured(f"the database takes no such connection: {exc.args[0]}") from exc
            raise
        except (OSError, TimeoutError, asyncio.CancelledError):
            # Of several hosts the first may be deaf, and the time of all of them is over: next time another is first.
            if self._url == url:
                self._url = _next_host_first(url)
            raise

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Lends a connection inside a transaction (READ COMMITTED) that commits at the end.

        After a failure of the network or a timeout there is no rollback to wait for: the connection is thrown away.
        """
        async with self.connection() as connection:
            await connection.begin()
            try:
                yield connection
            except _BROKEN:
                raise
            except BaseException:
                await connection.roll_back()
                raise
            await connection.commit()


def _next_host_first(url: str) -> str:
    """The same address, where several hosts stand before the path with the first of them at the end."""
    parts = urlsplit(url)
    user, at, hosts = parts.netloc.rpartition("@")
    first, comma, others = hosts.partition(",")
    return parts._replace(netloc=f"{user}{at}{others},{first}").geturl() if comma else url


async def _close(raw: "asyncpg.Connection[Record]") -> None:
    try:
        await raw.close(timeout=1)
    except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        raw.terminate()


@contextmanager
def translated() -> Iterator[None]:
    """Turns driver errors into ours, by SQLSTATE: 40 and 55P03 may be retried whole, 08, 28, 53 and 57 mean that the
    database is away, everything else is the fault of an item."""
    try:
        yield
    except asyncpg.PostgresError as exc:
        raise _translate(exc) from exc
    except asyncpg.ClientConfigurationError as exc:
        raise DatabaseMisconfigured(f"the address of the database can't be used: {exc.args[0]}") from exc
    except _LOST as exc:
        if isinstance(exc, asyncpg.InterfaceError) and isinstance(exc, ValueError):
            # The driver refuses a value before it is sent: out of range, or of a wrong type.
            raise BatchRejected("a value can't be sent to the database", _DATA_EXCEPTION) from exc
        raise DatabaseUnavailable(f"the database can't be reached: {_why(exc)}") from exc


def _why(exc: BaseException) -> str:
    """Names no host, for clients are told it too."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({exc.verify_message.partition(',')[0]})"
    if isinstance(exc, ssl.SSLError):
        return f"TLS failed ({exc.reason or type(exc).__name__})"
    if type(exc) is ConnectionError:
        # Only the driver itself raises this one, and only about the handshake.
        return "TLS was refused or broken off"
    return type(exc).__name__


def _translate(exc: asyncpg.PostgresError) -> Exception:
    sqlstate = exc.sqlstate or ""
    if sqlstate[:2] == "40" or sqlstate == "55P03":
        return TransientConflict(f"conflict with another transaction (SQLSTATE {sqlstate})")
    if sqlstate[:2] == "28":
        return DatabaseUnavailable(f"the database refuses the user, password or certificate (SQLSTATE {sqlstate})")
    if sqlstate[:2] in ("08", "53", "57") or sqlstate in ("25P03", "3D000", "25006"):
        return DatabaseUnavailable(f"the database is unavailable (SQLSTATE {sqlstate})")
    return BatchRejected(f"the database refused it (SQLSTATE {sqlstate})", sqlstate)
