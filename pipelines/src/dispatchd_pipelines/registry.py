"""Asks a registry about tags and sets them, with crane; tells "not found", "refused" and "another digest" apart."""

import base64
import json
import re

import dagger
from dagger import ReturnType, dag

from dispatchd_pipelines.checks import fresh
from dispatchd_pipelines.environments import go
from dispatchd_pipelines.pins import CRANE, Pins

_CONFIG = "/run/registry"
_NOT_FOUND = re.compile(r"\b(MANIFEST_UNKNOWN|NAME_UNKNOWN)\b|\b404 Not Found\b")
_REFUSED = re.compile(r"\b(unauthorized|denied)\b|\b403 Forbidden\b", re.IGNORECASE)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class RegistryError(Exception):
    """A registry did not do what it was asked for."""


class NotFound(RegistryError):
    """The registry has no such image or tag."""


class Refused(RegistryError):
    """The registry doesn't let this user do that."""


class AnotherDigest(RegistryError):
    """A tag that may never change stands for something else."""


class Unreachable(RegistryError):
    """The registry gave no usable answer."""


class NoToken(RegistryError):
    """There is nothing to log in with."""


def error_of(reference: str, printed: str) -> RegistryError:
    """What crane means by its last line. Those before it tell of tries that it did not give up after."""
    last = printed.strip().splitlines()[-1] if printed.strip() else "no answer"
    if _NOT_FOUND.search(last):
        return NotFound(f"{reference} is not in the registry")
    if _REFUSED.search(last):
        return Refused(f"the registry refuses {reference}: check --username and --token, and what they may do ({last})")
    return Unreachable(f"the registry gave no answer for {reference}: {last}")


class Registry:
    """A registry, for one user."""

    def __init__(self, crane: dagger.Container, host: str, username: str, token: dagger.Secret) -> None:
        self._crane = crane
        self._host = host
        self._username = username
        self._token = token

    async def digest(self, reference: str) -> str:
        """The digest that a tag stands for. Raises RegistryError."""
        printed = (await self._ask(reference, "digest", reference)).strip()
        if not _DIGEST.fullmatch(printed):
            raise Unreachable(f"the registry gave {printed!r} in place of a digest for {reference}")
        return printed

    async def digest_or_none(self, reference: str) -> str | None:
        """The digest that a tag stands for, or None if there is no such tag. Raises RegistryError."""
        try:
            return await self.digest(reference)
        except NotFound:
            return None

    async def tag(self, repository: str, digest: str, tag: str) -> None:
        """Let a tag stand for a digest that is there. Raises RegistryError."""
        await self._ask(f"{repository}:{tag}", "tag", f"{repository}@{digest}", tag)

    async def push(self, address: str, variants: list[dagger.Container]) -> str:
        """Push an image for all its platforms; gives the digest of their index. Raises RegistryError."""
        client = dag.container().with_registry_auth(self._host, self._username, self._token)
        try:
            pushed = await client.publish(address, platform_variants=variants)
        except dagger.QueryError as failure:
            raise error_of(address, str(failure)) from failure
        found = _DIGEST.search(pushed)
        if found is None:
            raise Unreachable(f"{address} was pushed, and the engine gave no digest for it: {pushed}")
        return found.group()

    async def _ask(self, reference: str, *arguments: str) -> str:
        ended = fresh(self._crane).with_exec(["crane", *arguments], expect=ReturnType.ANY)
        if await ended.exit_code() != 0:
            raise error_of(reference, await ended.stderr())
        return await ended.stdout()


async def authorised(container: dagger.Container, host: str, username: str, token: dagger.Secret) -> dagger.Container:
    """The container with the password of a user, as a file that is a secret, and nothing else. Raises NoToken."""
    given = base64.b64encode(f"{username}:{await _plaintext(token)}".encode()).decode()
    config = dag.set_secret("dispatchd-registry-config", json.dumps({"auths": {host: {"auth": given}}}))
    return container.with_env_variable("DOCKER_CONFIG", _CONFIG).with_mounted_secret(f"{_CONFIG}/config.json", config)


async def _plaintext(token: dagger.Secret) -> str:
    choices = "name one as env:NAME, file:PATH or cmd:COMMAND"
    try:
        text = await token.plaintext()
    except dagger.QueryError as failure:
        raise NoToken(f"--token can't be read: {str(failure).splitlines()[-1]}; {choices}") from failure
    if not text.strip():
        raise NoToken(f"--token is empty; {choices}")
    return text


async def log_in(pins: Pins, host: str, username: str, token: dagger.Secret) -> Registry:
    """A registry for a user. Raises NoToken."""
    crane = (
        go(pins)
        .with_env_variable("GOBIN", "/usr/local/bin")
        .with_exec(["go", "install", f"github.com/google/go-containerregistry/cmd/crane@{CRANE}"])
    )
    return Registry(await authorised(crane, host, username, token), host, username, token)
