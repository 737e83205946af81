"""What is done to dispatchd from a change to a release: checks, images, scans, load, drills, releases.

`dagger functions` lists the functions, `dagger call FUNCTION --help` tells of one, and `dagger check` runs all checks.
"""

from collections.abc import Callable
from typing import Annotated, TypeVar

import dagger
from dagger import DefaultPath, Doc, Ignore, check, dag, function, object_type

from dispatchd_pipelines import (
    checks,
    distributed,
    drills,
    evidence,
    fan_out,
    images,
    load,
    pins,
    promotion,
    release,
    scan,
)
from dispatchd_pipelines.admitted import IGNORE
from dispatchd_pipelines.checks import Outputs
from dispatchd_pipelines.environments import Environments
from dispatchd_pipelines.parts import Part, steps_of
from dispatchd_pipelines.pins import Pins

_Function = TypeVar("_Function", bound=Callable[..., object])


def never_cached(method: _Function) -> _Function:
    """Expose a function that is carried out at each call: an engine keeps other results for up to seven days."""
    # The SDK's overloads lack the argument, which its documentation names.
    exposed: _Function = function(method, cache="never")  # type: ignore[call-overload]
    return exposed


@object_type
class Dispatchd:
    """The checks, images, scans and releases of dispatchd."""

    source: Annotated[
        dagger.Directory,
        DefaultPath("/"),
        Ignore(IGNORE),
        Doc("The repository without its history; what no check reads is left out."),
    ]
    git: Annotated[
        dagger.GitRef,
        DefaultPath("./.git"),
        Doc("The history: for the scan for secrets, and for the commit that a release is made of."),
    ]
    at_once: Annotated[int, Doc("How many checks run at the same time.")] = 4
    python_image: Annotated[str, Doc("Python, for most checks, and as the base of the images.")] = pins.PYTHON
    go_image: Annotated[str, Doc("Go, which builds the registry tool.")] = pins.GO
    trivy_image: Annotated[str, Doc("Trivy, which scans files and images.")] = pins.TRIVY
    postgres_15_image: Annotated[str, Doc("The oldest PostgreSQL that is supported.")] = pins.POSTGRES_15
    postgres_18_image: Annotated[str, Doc("The newest PostgreSQL that is supported.")] = pins.POSTGRES_18
    redis_6_2_image: Annotated[str, Doc("The oldest Redis that is supported.")] = pins.REDIS_6_2
    redis_8_image: Annotated[str, Doc("The newest Redis that is supported.")] = pins.REDIS_8

    @property
    def _environments(self) -> Environments:
        used = Pins(
            python=self.python_image,
            go=self.go_image,
            trivy=self.trivy_image,
            postgres_15=self.postgres_15_image,
            postgres_18=self.postgres_18_image,
            redis_6_2=self.redis_6_2_image,
            redis_8=self.redis_8_image,
        )
        return Environments(used, self.source)

    @function
    @check
    async def lint(self) -> str:
        """Check formatting, lint, types and import layers."""
        return await checks.run(self._environments, self.git, steps_of(Part.LINT), self.at_once)

    @function
    @check
    async def proto(self) -> str:
        """Check that the contract is well-formed, that old clients can still use it, and that its stubs are fresh."""
        return await checks.run(self._environments, self.git, steps_of(Part.PROTO), self.at_once)

    @function
    @check
    async def render(self) -> str:
        """Check that gitops/ is what infra/ makes, that it builds, and that its objects are valid."""
        return await checks.run(self._environments, self.git, steps_of(Part.RENDER), self.at_once)

    @function
    @check
    async def test(
        self, all_faults: Annotated[bool, Doc("Make every single fault, and not only twelve of them.")] = False
    ) -> str:
        """Run all tests, against PostgreSQL and Valkey that the tests start themselves."""
        return await checks.run(self._environments, self.git, steps_of(Part.TEST, all_faults=all_faults), self.at_once)

    @never_cached
    async def ci(
        self, all_faults: Annotated[bool, Doc("Make every single fault, and not only twelve of them.")] = False
    ) -> str:
        """Run everything that a change has to pass: all checks, the images, and the scans. It publishes nothing."""
        return await evidence.ci(self._environments, self.git, self.at_once, all_faults=all_faults)

    @never_cached
    async def integration(
        self,
        postgres: Annotated[str, Doc("The version of PostgreSQL: 15 or 18.")] = "18",
        redis: Annotated[str, Doc("The version of Redis: 6.2 or 8.")] = "8",
    ) -> str:
        """Take thousands of jobs through real processes that are killed, over servers in containers of their own."""
        job = evidence.integration_job(self._environments, postgres, redis)
        return await fan_out.run([job], self.at_once)

    @function
    async def image(
        self, service: Annotated[str, Doc("The role: control-plane, scheduler or worker-gateway.")]
    ) -> dagger.Container:
        """Build the image of a role."""
        return images.build(self.source, self.python_image, images.named(service))

    @never_cached
    async def images(self) -> str:
        """Build all three images, look at each, and take a job through all of them."""
        built = distributed.images_of(self._environments)
        return await fan_out.run(release.smoke_jobs(self._environments, built), self.at_once)

    @never_cached
    async def scan(self) -> str:
        """Look for secrets, vulnerabilities and mistakes, in the history, the files, the images and the workflows."""
        return await fan_out.run(evidence.scan_jobs(self._environments, self.git, Outputs()), self.at_once)

    @function
    async def sbom(
        self, service: Annotated[str, Doc("The role: control-plane, scheduler or worker-gateway.")]
    ) -> dagger.File:
        """List what the image of a role consists of, in CycloneDX."""
        image = images.build(self.source, self.python_image, images.named(service))
        return scan.sbom(self._environments.pins, image)

    @never_cached
    async def load_test(
        self, profile: Annotated[str, Doc("How much arrives when: smoke, average or stress.")] = "smoke"
    ) -> dagger.File:
        """Put load on the three images with Postgres and Redis as services; give the summary as JSON."""
        return await load.load_test(self._environments, profile)

    @never_cached
    async def drill(
        self, name: Annotated[str, Doc("The fault, such as kill_gateway; a name that is none is answered with all.")]
    ) -> dagger.File:
        """Make one fault on an installation under load, check every promise, and give what came of it as JSON."""
        return await drills.drill(self._environments, name)

    @never_cached
    async def publish(
        self,
        registry: Annotated[str, Doc("Where the images go, such as ghcr.io/owner.")],
        username: Annotated[str, Doc("Who pushes them.")],
        tag: Annotated[str, Doc("The version, such as v1.2.3.")],
        token: Annotated[dagger.Secret, Doc("The password of that user, such as env:GITHUB_TOKEN.")],
    ) -> dagger.File:
        """Build, smoke, scan and push the images of this commit, then give them their version; gives images.json."""
        wanted = release.Release.of(registry, tag, await self.git.commit())
        text = await release.publish(self._environments, self.git, wanted, username, token, self.at_once)
        return dag.directory().with_new_file("images.json", text).file("images.json")

    @never_cached
    async def sboms(
        self,
        images: Annotated[dagger.File, Doc("The images.json of the release.")],
        username: Annotated[str, Doc("Who reads them.")],
        token: Annotated[dagger.Secret, Doc("The password of that user, such as env:GITHUB_TOKEN.")],
    ) -> dagger.Directory:
        """List what each published image consists of, for each of its platforms, in CycloneDX."""
        return await release.sboms(self._environments.pins, await images.contents(), username, token)

    @never_cached
    async def promote(
        self,
        env: Annotated[str, Doc("dev, staging, prod-region-a, prod-region-b, or production for both regions.")],
        images: Annotated[dagger.File, Doc("The images.json of the release.")],
    ) -> dagger.Changeset:
        """Let an environment run the images of a release: the change of gitops/ for a pull request."""
        return await promotion.promote(self._environments, self.git, env, images)

    @never_cached
    async def evidence(
        self, only_scans: Annotated[bool, Doc("Run what `scan` runs instead.")] = False
    ) -> dagger.Directory:
        """Run what `ci` runs, and give what came of it even where something fails, which outcome.txt then says.

        Beside report.txt, the folder holds dist/ with the wheel, build/scans/ with what each scan has found, as SARIF,
        and build/sbom/ with what the package consists of.
        """
        return await evidence.collect(self._environments, self.git, self.at_once, only_scans=only_scans)
