"""The HTTP port of a role: `/livez`, `/readyz` and `/metrics`."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

Ready = Callable[[], Awaitable[str | None]]

_READY_TIMEOUT_S = 2.0
_SHUTDOWN_TIMEOUT_S = 1.0

logger = logging.getLogger(__name__)
_server_log = logging.getLogger("aiohttp.server")


@asynccontextmanager
async def serve_probes(
    port: int, ready: Ready, registry: CollectorRegistry, host: str | None = None
) -> AsyncIterator[int]:
    """Serves the probes on all addresses, or on `host`, while the block runs; yields the port (0 takes a free one).

    `/livez` answers 200 as long as the event loop runs, whatever else is broken. `/readyz` asks `ready`, which returns
    None or the reason why this process can't work now: the answer is 503 with that reason, and also when `ready` fails
    or takes longer than two seconds.

    Raises:
        OSError: if the port is taken.
    """
    application = web.Application()
    application.add_routes(
        [
            web.get("/livez", _livez),
            web.get("/readyz", _readyz(ready)),
            web.get("/metrics", _metrics(registry)),
        ]
    )
    _server_log.addFilter(_is_our_fault)
    runner = web.AppRunner(
        application, access_log=None, handle_signals=False, shutdown_timeout=_SHUTDOWN_TIMEOUT_S, keepalive_timeout=15
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def _is_our_fault(record: logging.LogRecord) -> bool:
    """Whoever sends what is no HTTP is answered 400; a traceback for each says nothing about this process."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError)


async def _livez(_request: web.Request) -> web.Response:
    return web.Response(text="alive\n")


def _readyz(ready: Ready) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def readyz(_request: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(_READY_TIMEOUT_S):
                reason = await ready()
        except TimeoutError:
            reason = f"the check took longer than {_READY_TIMEOUT_S:.0f} s"
        except Exception:
            logger.exception("the readiness check failed")
            reason = "the check failed, see the log"
        if reason is None:
            return web.Response(text="ready\n")
        return web.Response(status=503, text=f"not ready: {reason}\n")

    return readyz


def _metrics(registry: CollectorRegistry) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    return metrics
