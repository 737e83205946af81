"""What a person decides about an environment: frozen, typed, read once, and refused with the file and the key.

`common.yaml` holds what all stacks share. `gitops/Pulumi.<stack>.yaml` holds one environment, under the one key
`dispatchd-gitops:environment`. The Pulumi program gets the same value from Pulumi, the command `infra render` reads the
file itself.
"""

from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

ModelT = TypeVar("ModelT", bound=BaseModel)

CONFIG_KEY = "dispatchd-gitops:environment"
COMMON = "infra/common.yaml"
"""What errors call the file with what all stacks share."""

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
"""A name that Kubernetes takes for everything (RFC 1123 label)."""

Cpu = Annotated[str, Field(pattern=r"^[1-9][0-9]*m?$")]
"""Processors: `2`, or thousandths of one: `250m`."""

Size = Annotated[str, Field(pattern=r"^[1-9][0-9]*(Mi|Gi|Ti)$")]
"""Bytes, in binary units: `512Mi`."""

Duration = Annotated[str, Field(pattern=r"^([0-9]+(ms|s|m|h))+$")]
"""As dispatchd itself reads durations: `1m30s`."""

Domain = Annotated[
    str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)+$", max_length=200)
]
"""A DNS name in lower case, without a dot at its end; short enough to put a role's name before it."""

Branch = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$")]
"""A branch of git, in plain letters."""

Token = Annotated[str, Field(pattern=r"^[^\s\"'\p{Cc}]+$", max_length=500)]
"""A text without spaces, quotes and control characters, which are nowhere meant and get lost on the way to a pod."""

Address = Annotated[str, Field(pattern=r"^https://[^\s\"'\p{Cc}]+$", max_length=500)]

VaultPath = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$", max_length=200)]

_CERTIFICATE = r"-----BEGIN CERTIFICATE-----\n([A-Za-z0-9+/=]+\n)+-----END CERTIFICATE-----\n"
Certificates = Annotated[str, Field(pattern=rf"^({_CERTIFICATE})+$")]
"""One certificate or several, in PEM. Certificates are public."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Stack(StrEnum):
    """A stack of the gitops program. `base` owns what the environments share."""

    BASE = "base"
    DEV = "dev"
    STAGING = "staging"
    PROD_REGION_A = "prod-region-a"
    PROD_REGION_B = "prod-region-b"

    @property
    def is_environment(self) -> bool:
        return self is not Stack.BASE

    @property
    def is_production(self) -> bool:
        return self in (Stack.PROD_REGION_A, Stack.PROD_REGION_B)


ENVIRONMENTS = tuple(stack for stack in Stack if stack.is_environment)
PRODUCTION = tuple(stack for stack in Stack if stack.is_production)


class SettingsError(Exception):
    """A file with settings can't be used; the text has a line for each mistake, with the file and the key."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Repository(_Model):
    """Where Argo CD finds gitops/. Forks change it here and nowhere else."""

    url: Annotated[str, Field(pattern=r"^https://[^\s@\"'\p{Cc}]+\.git$")]
    main: Branch
    production: Branch

    @model_validator(mode="after")
    def _two_branches(self) -> Self:
        if self.main == self.production:
            raise ValueError(f"main and production are both {self.main}; production follows a branch of its own")
        return self


class Chart(_Model):
    """A Helm chart that Argo CD installs, with the version that was looked at."""

    repository: Annotated[str, Field(pattern=r"^(https://)?[a-z0-9.-]+(:[0-9]+)?(/[A-Za-z0-9._~-]+)*/?$")]
    chart: Name
    version: Annotated[str, Field(pattern=r"^v?[0-9]+\.[0-9]+\.[0-9]+$")]
    namespace: Name


class Image(_Model):
    """An image of somebody else's, by tag; a digest is added where one was seen."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9.-]+(:[0-9]+)?(/[a-z0-9._-]+)+$")]
    tag: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$")]
    digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")] | None = None

    @property
    def reference(self) -> str:
        return f"{self.name}:{self.tag}" + (f"@{self.digest}" if self.digest else "")


class Namespaces(_Model):
    """Names of namespaces. Add-ons name theirs with their chart."""

    dispatchd: Name
    argocd: Name

    @model_validator(mode="after")
    def _two_namespaces(self) -> Self:
        if self.dispatchd == self.argocd:
            raise ValueError(f"dispatchd and argocd are both {self.argocd}; each needs a namespace of its own")
        return self


class Addons(_Model):
    """The operators that staging and production need. dev needs none."""

    cert_manager: Chart
    cloudnative_pg: Chart
    barman_cloud: Chart
    external_secrets: Chart
    keda: Chart
    prometheus: Chart


class Common(_Model):
    """What all stacks share: `infra/common.yaml`."""

    repository: Repository
    registry: Annotated[str, Field(pattern=r"^[a-z0-9.-]+(/[a-z0-9._-]+)+$")]
    """Registry and owner of the images, such as `ghcr.io/dispatchd`."""
    namespaces: Namespaces
    addons: Addons
    """Where each operator comes from. They stay out of the namespaces of dispatchd and Argo CD."""
    postgres: Image
    """Of CloudNativePG, for its clusters."""
    postgres_dev: Image
    """For dev's one pod, which no operator starts."""
    valkey: Image

    @model_validator(mode="after")
    def _addons_in_their_namespaces(self) -> Self:
        for name, chart in self.addons:
            if chart.namespace in (self.namespaces.dispatchd, self.namespaces.argocd):
                raise ValueError(f"addons.{name}.namespace: {chart.namespace} is no namespace for an operator")
        operator, plugin = self.addons.cloudnative_pg.namespace, self.addons.barman_cloud.namespace
        if plugin != operator:
            raise ValueError(f"addons.barman_cloud.namespace: {plugin} must be that of cloudnative_pg, {operator}")
        return self


class Capacity(_Model):
    """What one container gets. Memory is request and limit; processors are a request, without a limit."""

    cpu: Cpu
    memory: Size


class ScaledRole(Capacity):
    """A role whose replicas an autoscaler chooses, or a fixed number where both bounds are the same (dev)."""

    min_replicas: Annotated[int, Field(ge=1, le=200)]
    max_replicas: Annotated[int, Field(ge=1, le=200)]

    @model_validator(mode="after")
    def _bounds_in_order(self) -> Self:
        if self.max_replicas < self.min_replicas:
            raise ValueError(f"max_replicas {self.max_replicas} is less than min_replicas {self.min_replicas}")
        return self


class FixedRole(Capacity):
    """A role with as many replicas as are written here."""

    replicas: Annotated[int, Field(ge=1, le=10)]


class Roles(_Model):
    control_plane: ScaledRole
    scheduler: FixedRole
    worker_gateway: ScaledRole


class ObjectStorage(_Model):
    """Where a region's own Postgres backups and write-ahead log go."""

    destination: Annotated[str, Field(pattern=r"^s3://[a-z0-9][a-z0-9.-]+(/[^\s\"'\p{Cc}]*)?$")]
    endpoint: Address


class Database(Capacity):
    """Postgres. In dev one StatefulSet; elsewhere a CloudNativePG cluster, and then `backups` is needed."""

    storage: Size
    instances: Annotated[int, Field(ge=1, le=9)]
    backups: ObjectStorage | None = None


class Auth(_Model):
    """Whose tokens are taken, and for whom they have to be. The key to check them with is a secret."""

    issuer: Token
    audience: Token


class SecretStore(_Model):
    """Where External Secrets finds secrets and cert-manager an authority: a Vault-compatible server."""

    server: Address
    path: VaultPath
    """Where the key-value secrets are mounted."""
    pki_path: VaultPath
    """Where certificates are signed, such as `pki/sign/dispatchd`; cert-manager asks there."""
    mount_path: VaultPath
    """Where the cluster's service accounts log in."""
    role: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")]
    """As whom they log in."""
    ca_certificates: Certificates | None = None
    """Who signed the server's own certificate, if that is no public authority."""


class Environment(_Model):
    """One environment: `gitops/Pulumi.<stack>.yaml`."""

    app_env: Annotated[str, Field(pattern=r"^(development-kind|staging|production)$")]
    region: Name
    peer_region: Name | None = None
    """The other production region; both or neither."""
    domain: Domain
    """What this region's own addresses end in: `control-plane.<domain>`."""
    client_domain: Domain
    """What clients use, and what moves to the other region in a switch. Certificates name both."""
    client_cidrs: tuple[IPv4Network | IPv6Network, ...]
    """Addresses outside the cluster that may reach control-plane and worker-gateway."""
    lease_duration: Duration = "30s"
    log_level: Annotated[str, Field(pattern=r"^(debug|info|warn|error)$")] = "info"
    auth: Auth | None = None
    roles: Roles
    database: Database
    redis: Capacity
    """It has no disk: what it holds is made anew from Postgres."""
    secret_store: SecretStore | None = None
    certificate_issuer: Name | None = None

    @field_validator("client_cidrs", mode="before")
    @classmethod
    def _networks(cls, value: Any) -> Any:
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise ValueError("write a list of networks such as 10.0.0.0/8")
        return tuple((IPv6Network if ":" in each else IPv4Network)(each) for each in value)

    @property
    def is_development(self) -> bool:
        return self.app_env == "development-kind"

    @model_validator(mode="after")
    def _outside_development(self) -> Self:
        if self.is_development:
            return self
        missing = [
            name
            for name, value in (
                ("auth", self.auth),
                ("secret_store", self.secret_store),
                ("certificate_issuer", self.certificate_issuer),
                ("database.backups", self.database.backups),
            )
            if value is None
        ]
        if missing:
            raise ValueError(f"outside development these are needed: {', '.join(missing)}")
        if self.roles.scheduler.replicas < 2:
            raise ValueError("outside development roles.scheduler.replicas is at least 2: a leader and a standby")
        for name, role in (("control_plane", self.roles.control_plane), ("worker_gateway", self.roles.worker_gateway)):
            if role.min_replicas < 2:
                raise ValueError(f"outside development roles.{name}.min_replicas is at least 2")
        if self.database.instances < 2:
            raise ValueError("outside development database.instances is at least 2: a primary and a standby")
        if any(network.prefixlen == 0 for network in self.client_cidrs):
            raise ValueError("client_cidrs: the whole internet is refused outside development")
        return self


def read_common(infra: Path) -> Common:
    """Reads `common.yaml` of the folder `infra/`. Raises SettingsError."""
    return checked(Common, read_mapping(infra / "common.yaml", COMMON), COMMON)


def named(stack: Stack) -> str:
    """What errors call that file. The name alone would not do, as `infra/clusters` has one for each stack, too."""
    return f"infra/gitops/Pulumi.{stack}.yaml"


def stack_file(infra: Path, stack: Stack) -> Path:
    """The file with the settings of a stack of the gitops program."""
    return infra / "gitops" / f"Pulumi.{stack}.yaml"


def read_environment(infra: Path, stack: Stack) -> Environment:
    """Reads the settings of one environment from its stack file, without Pulumi. Raises SettingsError."""
    source = named(stack)
    return environment_from(read_config(stack_file(infra, stack), source).get(CONFIG_KEY), stack, source)


def environment_from(value: Any, stack: Stack, source: str) -> Environment:
    """Checks the settings of one environment, as Pulumi or the stack file gave them. Raises SettingsError."""
    if value is None:
        raise SettingsError(f"{source}: the key config.{CONFIG_KEY} is missing")
    if isinstance(value, dict) and "secure" in value:
        raise SettingsError(f"{source}: {CONFIG_KEY} is encrypted; what it leads to is public, so write it in clear")
    environment = checked(Environment, value, f"{source}: {CONFIG_KEY}")
    if stack.is_production:
        [peer] = [each for each in PRODUCTION if each is not stack]
        if (environment.region, environment.peer_region) != (stack, peer):
            raise SettingsError(f"{source}: {CONFIG_KEY}: stack {stack} needs region {stack} and peer_region {peer}")
    if not stack.is_production and environment.peer_region is not None:
        raise SettingsError(f"{source}: {CONFIG_KEY}.peer_region: only production has two regions")
    if environment.is_development != (stack is Stack.DEV):
        raise SettingsError(f"{source}: {CONFIG_KEY}.app_env: {environment.app_env} does not fit stack {stack}")
    return environment


def checked(model: type[ModelT], value: Any, source: str) -> ModelT:
    """The value as the model wants it. Raises SettingsError with every mistake."""
    try:
        return model.model_validate(value)
    except ValidationError as exc:
        raise SettingsError("\n".join(mistakes(exc, source))) from exc


def mistakes(exc: ValidationError, source: str) -> list[str]:
    """A line for each mistake: where it was read, the key, what is wrong, and what stands there."""
    lines = []
    for error in exc.errors():
        key = ".".join(str(part) for part in error["loc"])
        found = "" if error["type"] == "missing" else f" (found {error['input']!r})"
        message = "write a mapping of keys to values" if error["type"] == "model_type" else error["msg"]
        lines.append(f"{source}: {key + ': ' if key else ''}{message}{found if key else ''}")
    return lines


def read_mapping(path: Path, source: str) -> dict[str, Any]:
    """A file of keys and values; errors name the source. Raises SettingsError."""
    try:
        value = yaml.load(path.read_text(encoding="utf-8"), Loader=_OnceOnly)
    except OSError as exc:
        raise SettingsError(f"{source}: this file can't be read: {exc.strerror}") from exc
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as exc:
        raise SettingsError(f"{source}: this is no YAML: {' '.join(str(exc).split())}") from exc
    if not isinstance(value, dict):
        raise SettingsError(f"{source}: write a mapping of keys to values")
    return value


def read_config(path: Path, source: str) -> dict[str, Any]:
    """What a stack file of Pulumi has below `config`. Raises SettingsError."""
    config = read_mapping(path, source).get("config")
    if config is not None and not isinstance(config, dict):
        raise SettingsError(f"{source}: config: write a mapping of keys to values (found {config!r})")
    return config or {}


class _OnceOnly(yaml.SafeLoader):
    """Refuses a key that stands twice in a mapping, of which YAML's own reader silently takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key} stands there twice", node.start_mark
                )
        return super().construct_mapping(node, deep)
