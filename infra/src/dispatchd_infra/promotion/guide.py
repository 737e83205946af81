"""What an operator does next: for every phase of a switch, where it stands, and the command that leads on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import assert_never

from dispatchd_infra.manifests.labels import POSTGRES
from dispatchd_infra.promotion import region_status
from dispatchd_infra.promotion.steps import Phase, Step, phase_of
from dispatchd_infra.region_state import DatabaseRole, Regions, peer_of
from dispatchd_infra.settings import PRODUCTION, Common, Environment, Stack

_REBUILD_GATES = "--gates-confirmed backup --gates-confirmed volumes-deleted"


@dataclass(frozen=True, slots=True)
class Guide:
    """Writes the advice for one repository."""

    common: Common
    environments: Mapping[Stack, Environment]

    def merge(self) -> str:
        """What makes a commit of a step effective."""
        production = self.common.repository.production
        return f"Push this commit, merge it by a pull request into {production}, and wait until Argo CD has synced."

    def where(self, regions: Regions) -> list[str]:
        """The state in words."""
        lines = [f"primary of the roles  {regions.primary}, epoch {regions.epoch}"]
        for stack in PRODUCTION:
            state = regions.of(stack)
            archive = f", archive {state.server_name}" if state.role is not DatabaseRole.ABSENT else ""
            token = ", with a promotion token" if state.token is not None else ""
            lines.append(f"database of {stack}  {state.role}{archive}{token}")
        return lines

    def next(self, regions: Regions) -> list[str]:
        """What follows from here."""
        primary, peer = regions.primary, peer_of(regions.primary)
        phase = phase_of(regions)
        match phase:
            case Phase.ALONE:
                return [
                    f"Next, once {primary} has its first backup, give {peer} its database:",
                    _command(Step.BOOTSTRAP_PASSIVE, peer, "--gates-confirmed backup"),
                ]
            case Phase.SETTLED:
                return [
                    f"Nothing is open. A planned switch to {peer} begins so:",
                    f"  {self._dispatchd(primary, f'region drain --expect-epoch {regions.epoch}')}",
                    f"  {self._status(primary)}",
                    f"  {self._status(peer)}",
                    _command(Step.DEMOTE, primary, f"--status {primary}.json --status {peer}.json"),
                    f"If {primary} is lost, make sure that it can't write, and then:",
                    _command(Step.PROMOTE, peer, '--unplanned --fenced "HOW IT WAS FENCED"'),
                    f"If {peer} is lost, stop its Argo CD, delete its Cluster and volume claims, and then:",
                    _command(Step.REBUILD, peer, _REBUILD_GATES),
                ]
            case Phase.DEMOTED:
                return [
                    f"Next, once the database of {primary} shows its token, promote {peer} with it:",
                    f"  {self._token(primary)}",
                    _command(Step.PROMOTE, peer, "--token TOKEN"),
                    f"To give up instead, promote {primary} itself with this token.",
                ]
            case Phase.PROMOTED:
                lines = [
                    f"Next, once the database of {peer} is a primary, switch the roles:",
                    f"  {self._status(peer)}",
                    _command(Step.SWITCH, peer, f"--epoch {regions.epoch + 1} --status {peer}.json"),
                ]
                if regions.of(peer).token is not None:
                    lines += [
                        f"If it waits in vain, because {primary} is lost, fence that region and do without the token:",
                        _command(Step.PROMOTE, peer, '--unplanned --fenced "HOW IT WAS FENCED"'),
                        f"If {peer} is lost, fence that region and take {primary} again:",
                        _command(Step.PROMOTE, primary, '--unplanned --fenced "HOW IT WAS FENCED"'),
                    ]
                return lines
            case Phase.SWITCHED:
                return [
                    f"Next, once {primary} takes jobs and finishes them, remove the used token:",
                    *self._finish(primary),
                ]
            case Phase.DIVERGED:
                return [
                    f"Next, if this was not done: check that {primary} serves, and move DNS:",
                    *self._finish(primary),
                    f"Then, with Argo CD of {peer} stopped and its Cluster and volume claims deleted, rebuild {peer}:",
                    _command(Step.REBUILD, peer, _REBUILD_GATES),
                ]
        assert_never(phase)

    def finished(self, regions: Regions) -> list[str]:
        """The steps outside git that end a switch."""
        old, new = (self.environments[stack] for stack in (peer_of(regions.primary), regions.primary))
        repository = self.common.repository
        address = repository.url.removesuffix(".git")
        dns = (
            f"DNS: let control-plane.{new.client_domain} and worker-gateway.{new.client_domain} lead to"
            f" control-plane.{new.domain} and worker-gateway.{new.domain}, no longer to those of {old.domain}."
        )
        back = (
            f"Bring this back: a pull request that merges {repository.production} into {repository.main}, by a merge"
            f" commit: {address}/compare/{repository.main}...{repository.production}"
        )
        return [dns, back]

    def _finish(self, stack: Stack) -> list[str]:
        return [
            f"  {self._status(stack)}",
            _command(Step.FINISH, stack, f"--status {stack}.json --gates-confirmed smoke"),
        ]

    def _token(self, stack: Stack) -> str:
        return (
            f"kubectl --context {stack} -n {self.common.namespaces.dispatchd} get clusters.postgresql.cnpg.io"
            f" {POSTGRES} -o jsonpath='{{.status.demotionToken}}'"
        )

    def _status(self, stack: Stack) -> str:
        return f"{self._dispatchd(stack, 'region status --json')} > {stack}.json"

    def _dispatchd(self, stack: Stack, command: str) -> str:
        return region_status.in_region(stack, self.common.namespaces.dispatchd, command)


def _command(step: Step, stack: Stack, options: str) -> str:
    return f"  infra promote-region --step {step} --region {stack} {options} --commit"
