"""Which tools there are, which version of each, and where it lies.

Each tool is built from a Go module of ours, a folder beside this package whose go.mod and go.sum pin everything. What
was built lies in a cache below a key of those files, so that only a change of them builds anew. A `pulumi` or `kubectl`
on the PATH is used instead if its version fits.
"""

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
"""The folder infra/tools."""

Version = tuple[int, int, int]


class ToolMissing(Exception):
    """A tool is neither on the PATH nor built; the text says how to get it."""


@dataclass(frozen=True, slots=True)
class Fit:
    """The versions of a tool on the PATH that do as well: from `least` to below `below`."""

    command: tuple[str, ...]
    """What makes the tool print its version."""
    least: Version
    below: Version


@dataclass(frozen=True, slots=True)
class Tool:
    """An executable that is built from the module in the folder `module`."""

    name: str
    module: str
    package: str
    version: str
    stamps: tuple[tuple[str, str], ...] = ()
    """Variables that the linker sets: without them the tool does not know its own version."""
    fit: Fit | None = None

    @property
    def folder(self) -> Path:
        """The folder of the tool's module."""
        return HERE / self.module

    @property
    def built(self) -> Path:
        """Where the executable lies once it is built."""
        return cache() / f"{self.module}-{_key(self.folder)}" / self.name


_KUBERNETES = "v1.34.2"
_KUBERNETES_STAMPS = (
    ("k8s.io/component-base/version.gitVersion", _KUBERNETES),
    ("k8s.io/component-base/version.gitMajor", "1"),
    ("k8s.io/component-base/version.gitMinor", "34"),
)

PULUMI = Tool(
    "pulumi",
    "pulumi",
    "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi",
    "v3.250.0",
    (("github.com/pulumi/pulumi/sdk/v3/go/common/version.Version", "v3.250.0"),),
    Fit(("version",), (3, 250, 0), (4, 0, 0)),
)
KUBERNETES_PROVIDER = Tool(
    "pulumi-resource-kubernetes",
    "pulumi-kubernetes",
    ".",
    "v4.23.0",
    (("github.com/pulumi/pulumi-kubernetes/provider/v4/pkg/version.Version", "4.23.0"),),
)
ETCD = Tool("etcd", "etcd", "go.etcd.io/etcd/server/v3", "v3.6.5")
API_SERVER = Tool(
    "kube-apiserver", "kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver", _KUBERNETES, _KUBERNETES_STAMPS
)
CONTROLLER_MANAGER = Tool(
    "kube-controller-manager",
    "kubernetes",
    "k8s.io/kubernetes/cmd/kube-controller-manager",
    _KUBERNETES,
    _KUBERNETES_STAMPS,
)
KUBECTL = Tool(
    "kubectl",
    "kubernetes",
    "k8s.io/kubernetes/cmd/kubectl",
    _KUBERNETES,
    _KUBERNETES_STAMPS,
    # Kubernetes supports clients that are one minor version older or newer than the API server.
    Fit(("version", "--client"), (1, 33, 0), (1, 36, 0)),
)

TOOLS = (PULUMI, KUBERNETES_PROVIDER, ETCD, API_SERVER, CONTROLLER_MANAGER, KUBECTL)
"""In the order in which they are built: what the tests without a cluster need comes first."""

GITOPS_TIER = (PULUMI,)
"""What the tests need that run the real Pulumi, but no cluster."""


def cache() -> Path:
    """The folder for everything built, which all clones of this repository share."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser() / "dispatchd" / "infra-tools"


def find(tool: Tool) -> Path:
    """The executable to use: a fitting one on the PATH, else the one that was built. Raises ToolMissing."""
    path = located(tool)
    if path is None:
        raise ToolMissing(f"{tool.name} {tool.version} is neither on the PATH nor built; `make infra-tools` builds it")
    return path


def located(tool: Tool) -> Path | None:
    """As `find`, but None if there is none."""
    if tool.fit is not None:
        for candidate in _on_path(tool.name):
            if fits(tool.fit, candidate):
                return candidate
    return tool.built if tool.built.is_file() else None


def fits(fit: Fit, executable: Path) -> bool:
    """Whether this executable says that its version is in the range."""
    try:
        answer = subprocess.run([executable, *fit.command], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    version = version_in(answer.stdout)
    return answer.returncode == 0 and version is not None and fit.least <= version < fit.below


def version_in(text: str) -> Version | None:
    """The first version such as `v1.34.2` in what a tool printed."""
    found = re.search(r"\bv(\d+)\.(\d+)\.(\d+)", text)
    return None if found is None else (int(found[1]), int(found[2]), int(found[3]))


def _on_path(name: str) -> Iterator[Path]:
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        found = shutil.which(name, path=folder) if folder else None
        if found is not None:
            yield Path(found)


def _key(module: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted([module / "go.mod", module / "go.sum", *module.glob("*.go")]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
