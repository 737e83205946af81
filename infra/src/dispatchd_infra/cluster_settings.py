"""Which cluster a stack of the clusters program prepares, and whether kubectl means the same one."""

from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, model_validator

from dispatchd_infra.settings import SettingsError, Sha256, Stack, checked, read_config

CLUSTER_KEY = "dispatchd-clusters:cluster"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Manifest(_Model):
    """A file of Kubernetes objects that isn't ours: a path relative to `infra/clusters`, or an address."""

    manifest: str
    sha256: Sha256
    """What the file must hash to, so that nobody else decides what runs in our clusters."""

    @model_validator(mode="after")
    def _not_in_clear(self) -> Self:
        if "://" in self.manifest and not self.manifest.startswith("https://"):
            raise ValueError("the manifest's address must begin with https://")
        return self


class Cluster(_Model):
    """One cluster: `clusters/Pulumi.<environment>.yaml`."""

    kubeconfig: str
    """Path of the kubeconfig, which may begin with `~`. Its content is read by the provider and never kept in state."""
    context: str
    """The context in it. It must also be the current one, so that kubectl and Pulumi mean the same cluster."""
    argocd: Manifest


def named(stack: Stack) -> str:
    """What errors call the file with the settings of a stack's cluster."""
    return f"infra/clusters/Pulumi.{stack}.yaml"


def read_cluster(infra: Path, stack: Stack) -> Cluster:
    """Reads the settings of one cluster from its stack file, without Pulumi. Raises SettingsError."""
    path = infra / "clusters" / f"Pulumi.{stack}.yaml"
    return cluster_from(read_config(path, named(stack)).get(CLUSTER_KEY), stack, named(stack))


def cluster_from(value: Any, stack: Stack, source: str) -> Cluster:
    """Checks the settings of one cluster, as Pulumi gave them. Raises SettingsError."""
    if not stack.is_environment:
        raise SettingsError(f"{source}: stack {stack} is no environment, so that it has no cluster")
    if value is None:
        raise SettingsError(f"{source}: the key config.{CLUSTER_KEY} is missing")
    return checked(Cluster, value, f"{source}: {CLUSTER_KEY}")


def checked_kubeconfig(cluster: Cluster, source: str) -> Path:
    """The path of the kubeconfig, after a look into it. Raises SettingsError if its current context is another one."""
    key = f"{source}: {CLUSTER_KEY}"
    try:
        path = Path(cluster.kubeconfig).expanduser()
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise SettingsError(f"{key}.kubeconfig: {cluster.kubeconfig} can't be read: {exc.strerror}") from exc
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        raise SettingsError(f"{key}.kubeconfig: {cluster.kubeconfig} is no YAML") from exc
    except RuntimeError as exc:
        raise SettingsError(f"{key}.kubeconfig: {cluster.kubeconfig} is in the home of nobody here") from exc
    config = value if isinstance(value, dict) else {}
    contexts = config.get("contexts")
    names = [each.get("name") for each in contexts if isinstance(each, dict)] if isinstance(contexts, list) else []
    if cluster.context not in names:
        raise SettingsError(
            f"{key}.context: {cluster.kubeconfig} has no context {cluster.context};"
            f" it has {', '.join(map(str, names)) or 'none'}"
        )
    current = config.get("current-context")
    if current != cluster.context:
        raise SettingsError(
            f"{key}.context: this stack is for {cluster.context}, but the current context is {current or 'none'};"
            f" if {cluster.context} is what you mean, run `kubectl config use-context {cluster.context}`"
        )
    return path
