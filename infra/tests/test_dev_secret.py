"""`infra dev-secret` makes what dev needs and shows it to nobody; a shell script on the PATH stands for kubectl."""

import json
import shutil
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dispatchd_infra.cli import main
from dispatchd_infra.commands.dev_secret import random_values
from policies.existing import DEV_SECRETS
from repositories import INFRA

CLUSTER = """\
config:
  dispatchd-clusters:cluster:
    kubeconfig: ~/.kube/config
    context: kind-dispatchd
    argocd:
      manifest: install.yaml
      sha256: "{zeros}"
""".format(zeros="0" * 64)

KUBECTL = """\
#!/bin/sh
echo "$*" >> calls
case "$*" in
  *" get secret "*) for name in $PRESENT; do case "$*" in *" $name "*) echo "secret/$name" ;; esac; done ;;
  *" create "*) cat >> created ;;
esac
"""


@pytest.fixture
def infra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "infra"
    (folder / "clusters").mkdir(parents=True)
    shutil.copy(INFRA / "common.yaml", folder)
    (folder / "clusters" / "Pulumi.dev.yaml").write_text(CLUSTER)
    program = tmp_path / "kubectl"
    program.write_text(KUBECTL)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("PRESENT", "")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "calls").touch()
    (tmp_path / "created").touch()
    return folder


def run(infra: Path, context: str = "kind-dispatchd") -> Result:
    return CliRunner().invoke(main, ["--infra", str(infra), "dev-secret", "--context", context])


def created(infra: Path) -> dict[str, dict[str, str]]:
    """The Secrets that kubectl was given, with their values."""
    decoder, text, found = json.JSONDecoder(), (infra.parent / "created").read_text(), {}
    while text:
        value, end = decoder.raw_decode(text)
        found[value["metadata"]["name"]], text = value["stringData"], text[end:]
    return found


def test_what_is_absent_is_made_in_the_context_that_was_named(infra: Path) -> None:
    result = run(infra)
    assert result.exit_code == 0, result.output
    assert set(created(infra)) == set(DEV_SECRETS)
    calls = (infra.parent / "calls").read_text().splitlines()
    assert all(call.startswith("--context=kind-dispatchd ") for call in calls)


def test_no_value_is_printed_or_part_of_a_command_line(infra: Path) -> None:
    seen = run(infra).output + (infra.parent / "calls").read_text()
    for values in created(infra).values():
        for key, value in values.items():
            assert key == "username" or value not in seen


def test_what_is_there_stays_as_it_is(infra: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRESENT", "dispatchd-database")
    assert "dispatchd-database is there already" in run(infra).output
    assert set(created(infra)) == {"dispatchd-redis"}


def test_another_context_than_the_configured_one_is_refused_before_anything_is_asked(infra: Path) -> None:
    result = run(infra, context="production")
    assert result.exit_code != 0
    assert "infra/clusters/Pulumi.dev.yaml: dispatchd-clusters:cluster.context says that dev is kind-dispatchd" in (
        " ".join(result.output.split())
    )
    assert (infra.parent / "calls").read_text() == ""


def test_what_kubectl_says_is_passed_on(infra: Path) -> None:
    (infra.parent / "kubectl").write_text("#!/bin/sh\necho 'no such host' >&2\nexit 1\n")
    result = run(infra)
    assert result.exit_code != 0
    assert "kubectl get in context kind-dispatchd: no such host" in result.output


def test_a_missing_kubectl_is_named(infra: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(infra))
    assert "there is no `kubectl` on the PATH" in run(infra).output


def test_the_secrets_have_the_keys_that_dev_reads_and_every_run_makes_other_passwords() -> None:
    first, second = random_values("dispatchd"), random_values("dispatchd")
    assert {name: frozenset(values) for name, values in first.items()} == DEV_SECRETS
    assert first["dispatchd-database"]["password"] != second["dispatchd-database"]["password"]
    assert first["dispatchd-redis"] != second["dispatchd-redis"]
    database = first["dispatchd-database"]
    assert database["DATABASE_URL"] == (
        f"postgresql://dispatchd:{database['password']}@postgres-rw.dispatchd.svc:5432/dispatchd"
    )
