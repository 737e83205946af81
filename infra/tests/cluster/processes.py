"""Real processes on loopback: etcd, kube-apiserver and kube-controller-manager. Without nodes, no pod ever runs."""

import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from infra_tools.catalogue import API_SERVER, CONTROLLER_MANAGER, ETCD, find

CONTEXT = "loopback"
"""The one context of the kubeconfig that is written."""

TOKEN = "the-token-of-a-test-on-loopback"
"""What the administrator in that kubeconfig logs in with."""

_READY_WITHIN = timedelta(seconds=60)

_CONTROLLERS = (
    "deployment-controller",
    "replicaset-controller",
    "statefulset-controller",
    "job-controller",
    # Without these two, deleting in the foreground and deleting a namespace never end.
    "garbage-collector-controller",
    "namespace-controller",
    # Without this one, admission does not know how much of a quota is used, and refuses every pod.
    "resourcequota-controller",
    "serviceaccount-controller",
)


class NotStarted(Exception):
    """A process ended, or was not ready in time; the text ends with what it logged last."""


@contextmanager
def control_plane(folder: Path) -> Iterator[Path]:
    """A Kubernetes control plane with an empty etcd; gives the kubeconfig of an administrator. Raises NotStarted."""
    etcd_url = f"http://127.0.0.1:{_free_port()}"
    peer_url = f"http://127.0.0.1:{_free_port()}"
    port = _free_port()
    key = folder / "service-accounts.key"
    key.write_bytes(
        rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    tokens = folder / "tokens.csv"
    tokens.write_text(f'{TOKEN},administrator,administrator,"system:masters"\n')
    kubeconfig = _write_kubeconfig(folder, port)
    with ExitStack() as running:
        running.enter_context(
            _process(
                folder,
                [
                    str(find(ETCD)),
                    f"--data-dir={folder / 'etcd'}",
                    f"--listen-client-urls={etcd_url}",
                    f"--advertise-client-urls={etcd_url}",
                    f"--listen-peer-urls={peer_url}",
                    f"--initial-advertise-peer-urls={peer_url}",
                    f"--initial-cluster=default={peer_url}",
                    "--unsafe-no-fsync",
                ],
            )
        )
        api_server = running.enter_context(
            _process(
                folder,
                [
                    str(find(API_SERVER)),
                    f"--etcd-servers={etcd_url}",
                    f"--cert-dir={folder}",
                    "--bind-address=127.0.0.1",
                    f"--secure-port={port}",
                    "--endpoint-reconciler-type=none",
                    "--service-cluster-ip-range=10.0.0.0/24",
                    "--service-account-issuer=https://kubernetes.default.svc",
                    f"--service-account-key-file={key}",
                    f"--service-account-signing-key-file={key}",
                    f"--token-auth-file={tokens}",
                    "--authorization-mode=RBAC",
                    "--allow-privileged=true",
                    "--enable-admission-plugins=PodSecurity,ResourceQuota,Priority",
                ],
            )
        )
        _wait_until_ready(api_server, folder, port)
        running.enter_context(
            _process(
                folder,
                [
                    str(find(CONTROLLER_MANAGER)),
                    f"--kubeconfig={kubeconfig}",
                    f"--controllers={','.join(_CONTROLLERS)}",
                    "--leader-elect=false",
                    "--secure-port=0",
                ],
            )
        )
        yield kubeconfig


@contextmanager
def _process(folder: Path, command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    log = _log(folder, command[0])
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _log(folder: Path, executable: str) -> Path:
    return folder / f"{Path(executable).name}.log"


def _wait_until_ready(api_server: subprocess.Popen[bytes], folder: Path, port: int) -> None:
    give_up = time.monotonic() + _READY_WITHIN.total_seconds()
    certificate = folder / "apiserver.crt"
    while not (certificate.is_file() and _ready(port, certificate)):
        ended = api_server.poll() is not None
        if ended or time.monotonic() > give_up:
            last = "\n".join(_log(folder, API_SERVER.name).read_text(errors="replace").splitlines()[-20:])
            raise NotStarted(f"kube-apiserver {'ended' if ended else f'is not ready after {_READY_WITHIN}'}:\n{last}")
        time.sleep(0.1)


def _ready(port: int, certificate: Path) -> bool:
    request = urllib.request.Request(f"https://127.0.0.1:{port}/readyz", headers={"Authorization": f"Bearer {TOKEN}"})
    try:
        with urllib.request.urlopen(request, timeout=5, context=ssl.create_default_context(cafile=str(certificate))):
            return True
    except (OSError, ssl.SSLError):
        return False


def _write_kubeconfig(folder: Path, port: int) -> Path:
    path = folder / "kubeconfig"
    server = {"server": f"https://127.0.0.1:{port}", "certificate-authority": str(folder / "apiserver.crt")}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": CONTEXT, "cluster": server}],
        "users": [{"name": CONTEXT, "user": {"token": TOKEN}}],
        "contexts": [{"name": CONTEXT, "context": {"cluster": CONTEXT, "user": CONTEXT}}],
        "current-context": CONTEXT,
    }
    path.write_text(yaml.safe_dump(content))
    path.chmod(0o600)
    return path


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
