"""Two regions with a database each, one of which follows the other, and what deployments say at each step.

A deployment runs `dispatchd migrate` and `dispatchd region apply`, and then starts roles with its settings. Commands
and settings are those that `gitops/` has for the production regions; only PRIMARY_REGION and REGION_EPOCH change from
step to step. The roles of every earlier deployment run on here, unless they were scaled to zero: an update may hang.
"""

import os
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
from click.testing import Result

import rendered_regions
from command_line import CommandLine
from control_planes import ControlPlane, control_plane_on
from dispatchd.entrypoints.role_process import RoleProcess
from dispatchd.entrypoints.settings import Role
from dispatchd.v1 import dispatchd_pb2 as pb
from rendered_regions import Settings
from replicas import ReplicatedPostgres
from stores import sql

PATIENCE_S = 15.0
NO_REDIS = "127.0.0.1:1"
A, B = rendered_regions.regions()
"""The primary, and the region that takes over."""
EPOCH = rendered_regions.epoch()
OF_THE_REGION = ("REGION", "PRIMARY_REGION", "REGION_EPOCH", "ALLOW_MUTATIONS")
REFUSALS = grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.UNAVAILABLE
"""By the region row, and by a database that takes no writes."""


def settings_of(region: str, workload: str, primary: str, epoch: int) -> Settings:
    """What is rendered, at a step of the switch."""
    return rendered_regions.settings(region, workload) | {"PRIMARY_REGION": primary, "REGION_EPOCH": str(epoch)}


def role_settings(region: str, primary: str, epoch: int) -> Settings:
    """What of them says who may change jobs; tokens and certificates there are none of here."""
    found = settings_of(region, "control-plane", primary, epoch)
    return {name: found[name] for name in OF_THE_REGION if name in found}


@dataclass
class Region:
    """One region: its database, and the settings of all roles that may run."""

    name: str
    postgres: ReplicatedPostgres
    roles: list[Settings] = field(default_factory=list)

    async def command(self, *arguments: str, settings: Settings | None = None) -> Result:
        """A command beside this region's database."""
        environ = {"DATABASE_URL": self.postgres.url, "REGION": self.name, **(settings or {})}
        return await CommandLine(environ)(*arguments)

    async def status(self) -> dict[str, object]:
        found: dict[str, object] = await CommandLine({"DATABASE_URL": self.postgres.url, "REGION": self.name}).json(
            "region", "status"
        )
        return found

    async def deploy(self, primary: str, epoch: int) -> Result:
        """What the commit of a region step does here. Returns how it ended; after a failure no role is started."""
        for command in rendered_regions.hook():
            result = await self.command(*command, settings=settings_of(self.name, "migrate", primary, epoch))
            if result.exit_code != 0:
                return result
        if (role := role_settings(self.name, primary, epoch)) not in self.roles:
            self.roles.append(role)
        return result

    async def is_new(self) -> None:
        """Makes the schema, and the row as it is committed: with an epoch that earlier switches have left."""
        await self.command("migrate", settings=settings_of(self.name, "migrate", A, EPOCH))
        async with sql(self.postgres.url) as session:
            await session.execute("update region set epoch = $1", EPOCH)


@dataclass
class Probes:
    """What the roles of the regions do when somebody wants something changed."""

    regions: tuple[Region, Region]
    jobs: list[str] = field(default_factory=list)
    """To be canceled."""

    async def store_jobs(self, region: Region) -> None:
        async with control_plane_on(region.postgres.url, NO_REDIS, **region.roles[-1]) as plane:
            self.jobs = [(await plane.submit()).job_id for _ in range(50)]

    async def take_work(self) -> set[str]:
        """The regions in which a submit is acked by any role."""
        return {region.name for region in self.regions if await self._any_role(region, self._submits)}

    async def change_jobs(self) -> set[str]:
        """The regions in which a cancel is acked by any role; they may take no new work."""
        return {region.name for region in self.regions if await self._any_role(region, self._cancels)}

    async def _any_role(self, region: Region, try_it: "Callable[[ControlPlane], Awaitable[object]]") -> bool:
        codes = []
        for settings in region.roles:
            async with control_plane_on(region.postgres.url, NO_REDIS, **settings) as plane:
                try:
                    await try_it(plane)
                except grpc.aio.AioRpcError as exc:
                    codes.append(exc.code())
                else:
                    codes.append(grpc.StatusCode.OK)
        assert set(codes) <= {grpc.StatusCode.OK, *REFUSALS}
        return grpc.StatusCode.OK in codes

    async def _submits(self, plane: ControlPlane) -> None:
        await plane.submit()

    async def _cancels(self, plane: ControlPlane) -> None:
        job_id = self.jobs[-1]
        await plane.jobs.CancelJob(pb.CancelJobRequest(job_id=job_id))
        self.jobs.pop()


@pytest.fixture
def regions(tmp_path: Path) -> Iterator[tuple[Region, Region]]:
    """Region A with an empty primary, and region B with a replica of it."""
    with (
        ReplicatedPostgres(tmp_path / "a") as primary,
        ReplicatedPostgres(tmp_path / "b", source=primary) as replica,
    ):
        yield Region(A, primary), Region(B, replica)


@pytest.fixture
async def probes(regions: tuple[Region, Region]) -> Probes:
    """After the first deployment, with A as the primary."""
    a, b = regions
    await a.is_new()
    assert (await a.deploy(A, EPOCH)).exit_code == 0
    await b.postgres.catch_up_with(a.postgres)
    assert (await b.deploy(A, EPOCH)).exit_code == 0
    found = Probes(regions)
    await found.store_jobs(a)
    assert await found.take_work() == await found.change_jobs() == {A}
    await b.postgres.catch_up_with(a.postgres)
    return found


async def test_roles_end_while_their_replica_lacks_the_schema_and_work_when_they_are_started_again(
    regions: tuple[Region, Region], redis_address: str, free_port: Callable[[], int]
) -> None:
    a, b = regions
    migrated = await b.command("migrate")
    assert (migrated.exit_code, migrated.stderr) == (0, "")
    assert migrated.stdout == "nothing to do: this database is read-only: a replica gets its schema from its primary\n"
    environ = os.environ | {"DATABASE_URL": b.postgres.url, "REDIS_ADDRESS": redis_address} | role_settings(B, A, EPOCH)
    written: dict[str, list[str]] = {role: [] for role in Role}
    roles = [
        RoleProcess(
            role,
            role,
            environ,
            None if role is Role.SCHEDULER else free_port(),
            free_port(),
            lambda name, line: written[name].append(line),
        )
        for role in Role
    ]
    for role in roles:
        await role.start()
    for role in roles:
        assert await role.wait_ended() == 2
        text = "\n".join(written[role.name])
        assert "the database has schema version 0, this program needs" in text
        assert "it is read-only, so migrate its primary, and start again once it has caught up" in text
        assert "Traceback" not in text
    await a.is_new()
    await b.postgres.catch_up_with(a.postgres)
    for role in roles:
        await role.start()
    for role in roles:
        await role.wait_ready()
        assert await role.stop(PATIENCE_S) == 0


async def test_a_passive_region_reads_from_its_replica_and_names_the_primary(probes: Probes) -> None:
    _, passive = probes.regions
    async with control_plane_on(passive.postgres.url, NO_REDIS, **passive.roles[0]) as plane:
        assert (await plane.get(probes.jobs[0])).status == pb.JOB_STATUS_PENDING
        with pytest.raises(grpc.aio.AioRpcError, match=f"primary is '{A}'") as refused:
            await plane.submit()
        assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION


@pytest.mark.parametrize("first", [A, B])
async def test_in_a_planned_switch_one_region_at_most_changes_jobs_and_in_the_end_it_is_b(
    regions: tuple[Region, Region], probes: Probes, first: str
) -> None:
    a, b = regions
    assert (await a.command("region", "drain", "--expect-epoch", str(EPOCH))).exit_code == 0
    assert (await probes.take_work(), await probes.change_jobs()) == (set(), {A})
    # It can be given up, and begun again.
    assert (await a.command("region", "drain", "--undo", "--expect-epoch", str(EPOCH))).exit_code == 0
    assert await probes.take_work() == {A}
    assert (await a.command("region", "drain", "--expect-epoch", str(EPOCH))).exit_code == 0

    draining = await a.status()
    assert (draining["region"], draining["database"], draining["mode"]) == (A, "primary", "draining")
    assert (draining["in_flight"], draining["latest_lease_end"]) == (0, None)
    behind = await b.status()
    assert (behind["mode"], position(behind) < position(draining)) == ("active", True)
    await b.postgres.catch_up_with(a.postgres)
    following = await b.status()
    assert (following["region"], following["database"], following["mode"]) == (B, "replica", "draining")
    assert position(following) >= position(draining)

    # A is demoted, B gets all of it and is promoted, and A comes back as a replica of B.
    a.postgres.demote()
    await b.postgres.promote()
    a.postgres.follow(b.postgres)
    assert await probes.change_jobs() == set()
    # The commit of before, once more: it agrees with the row.
    for region in regions:
        assert (await region.deploy(A, EPOCH)).exit_code == 0
    assert await probes.change_jobs() == set()

    for region in sorted(regions, key=lambda region: region.name != first):
        assert (await region.deploy(B, EPOCH + 1)).exit_code == 0
        changing = await probes.change_jobs()
        assert changing == await probes.take_work()
        assert changing == ({B} if b.roles[-1]["REGION_EPOCH"] == str(EPOCH + 1) else set())
    await a.postgres.catch_up_with(b.postgres)
    assert await probes.take_work() == await probes.change_jobs() == {B}
    assert [
        (found["database"], found["primary_region"], found["epoch"]) for found in (await a.status(), await b.status())
    ] == [
        ("replica", B, EPOCH + 1),
        ("primary", B, EPOCH + 1),
    ]


@pytest.mark.parametrize("is_b_promoted", [False, True], ids=["b-waits-for-the-token", "b-is-promoted-and-lost"])
async def test_a_takes_over_again_under_the_same_epoch_when_the_switch_to_b_comes_to_nothing(
    regions: tuple[Region, Region], probes: Probes, tmp_path: Path, is_b_promoted: bool
) -> None:
    a, b = regions
    assert (await a.command("region", "drain", "--expect-epoch", str(EPOCH))).exit_code == 0
    await b.postgres.catch_up_with(a.postgres)
    a.postgres.demote()
    if is_b_promoted:
        await b.postgres.promote()
    a.postgres.follow(b.postgres)
    # No commit has told the roles of B, so that they change nothing.
    assert await probes.change_jobs() == set()

    if is_b_promoted:
        b.roles = []
        b.postgres.stop()
    await a.postgres.promote()
    for region in regions[: 1 if is_b_promoted else 2]:
        # The commit tells the roles what they were told before.
        assert (await region.deploy(A, EPOCH)).exit_code == 0
    assert (await probes.take_work(), await probes.change_jobs()) == (set(), {A})
    assert (await a.command("region", "drain", "--undo", "--expect-epoch", str(EPOCH))).exit_code == 0
    assert await probes.take_work() == {A}

    if not is_b_promoted:
        await b.postgres.catch_up_with(a.postgres)
        assert ((await b.status())["database"], (await b.status())["mode"]) == ("replica", "active")
        assert await probes.take_work() == await probes.change_jobs() == {A}
        return
    with ReplicatedPostgres(tmp_path / "rebuilt", source=a.postgres) as rebuilt:
        b.postgres = rebuilt
        await rebuilt.catch_up_with(a.postgres)
        assert (await b.deploy(A, EPOCH)).exit_code == 0
        assert await probes.take_work() == await probes.change_jobs() == {A}
        assert ((await b.status())["database"], (await b.status())["epoch"]) == ("replica", EPOCH)


async def test_in_an_unplanned_switch_the_fence_keeps_a_from_changing_jobs_until_it_is_rebuilt(
    regions: tuple[Region, Region], probes: Probes, tmp_path: Path
) -> None:
    a, b = regions
    async with control_plane_on(a.postgres.url, NO_REDIS, **a.roles[0]) as plane:
        lost = (await plane.submit()).job_id
    # The fence: A is out of reach, or looks like it, and its roles are scaled to zero. Its database may go on.
    fenced, a.roles = a.roles, []
    assert await probes.change_jobs() == set()
    await b.postgres.promote()
    async with control_plane_on(b.postgres.url, NO_REDIS, **b.roles[0]) as plane:
        # What the archive did not have yet is the price of such a switch.
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await plane.get(lost)
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    assert await probes.change_jobs() == set()
    assert (await b.deploy(B, EPOCH + 1)).exit_code == 0
    assert await probes.take_work() == await probes.change_jobs() == {B}

    # A's own row still says that A is the primary, so that a deployment fails before it starts a role.
    late = await a.deploy(B, EPOCH + 1)
    assert late.exit_code == 1
    assert f"only the deployment of region '{B}' itself may set this" in late.stderr
    # And should such a role start all the same, it changes nothing.
    a.roles = [role_settings(A, B, EPOCH + 1)]
    assert await probes.take_work() == await probes.change_jobs() == {B}
    # The roles of before would: nothing but the fence stops them.
    a.roles = fenced
    assert await probes.change_jobs() == {A, B}

    a.roles = []
    a.postgres.stop()
    with ReplicatedPostgres(tmp_path / "rebuilt", source=b.postgres) as rebuilt:
        a.postgres = rebuilt
        await rebuilt.catch_up_with(b.postgres)
        assert (await a.deploy(B, EPOCH + 1)).exit_code == 0
        a.roles += fenced
        assert await probes.take_work() == await probes.change_jobs() == {B}
        assert (await a.status())["database"] == "replica"


def position(status: dict[str, object]) -> int:
    """The position in bytes, as the gates of a switch compare it."""
    high, low = str(status["wal_position"]).split("/")
    return (int(high, 16) << 32) + int(low, 16)
