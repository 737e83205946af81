"""What is done to dispatchd from a change to a release: checks, images, scans, load, drills, releases.

`dagger functions` lists the functions, `dagger call FUNCTION --help` tells of one, and `dagger check` runs all checks.
"""

from typing import Annotated

import dagger
from dagger import DefaultPath, Doc, Ignore, check, function, object_type

from dispatchd_pipelines import checks, pins
from dispatchd_pipelines.admitted import IGNORE
from dispatchd_pipelines.environments import Environments
from dispatchd_pipelines.parts import Part, steps_of
from dispatchd_pipelines.pins import Pins


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
    python_image: Annotated[str, Doc("Python, in which most checks run.")] = pins.PYTHON
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
        return await checks.run(self._environments, steps_of(Part.LINT), self.at_once)

    @function
    @check
    async def proto(self) -> str:
        """Check that the contract is well-formed, that old clients can still use it, and that its stubs are fresh."""
        return await checks.run(self._environments, steps_of(Part.PROTO), self.at_once)

    @function
    @check
    async def render(self) -> str:
        """Check that gitops/ is what infra/ makes, that it builds, and that its objects are valid."""
        return await checks.run(self._environments, steps_of(Part.RENDER), self.at_once)

    @function
    @check
    async def test(
        self, all_faults: Annotated[bool, Doc("Make every single fault, and not only twelve of them.")] = False
    ) -> str:
        """Run all tests, against PostgreSQL and Valkey that the tests start themselves."""
        return await checks.run(self._environments, steps_of(Part.TEST, all_faults=all_faults), self.at_once)
