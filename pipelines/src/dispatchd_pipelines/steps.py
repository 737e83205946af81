"""Every check of this repository as data.

The Dagger module runs these commands in containers, and `python -m dispatchd_pipelines.native` runs the same ones on
this machine. A step is a command that does the work itself; it calls neither make nor another step. What changes the
tree, such as formatting it, is no check and is not here.
"""

from collections.abc import Sequence

from dispatchd_pipelines.step import EXECUTABLES, FOLDERS, ImageRole, Needs, Step, UnknownStep

__all__ = ["EXECUTABLES", "FOLDERS", "STEPS", "ImageRole", "Needs", "Step", "UnknownStep", "select", "step"]

ENVIRONMENTS = ("dev", "staging", "prod-region-a", "prod-region-b")

_EVERYTHING = ("**",)
"""For suites that read documents, manifests and evidence beside the code: nearly every file decides their result."""
_PROTO = ("proto/**",)
_APP = ("app/**", "pyproject.toml")
_RUFF = ("**/*.py", "**/*.pyi", "pyproject.toml", "infra/pyproject.toml", "pipelines/pyproject.toml", ".gitignore")
_MANIFESTS = ("infra/**", "gitops/**")
_LOCKS = ("uv.lock", "infra/uv.lock", "pipelines/requirements.lock", "pipelines/scanners/requirements.lock")
_SCANS = ("pipelines/src/**", "pipelines/exceptions.toml")
_PYTHON_OF_OURS = {"PYTHONPATH": "pipelines/src"}
_SCHEMA_TESTS = ("tests/test_schemas.py", "tests/test_policies.py")

STEPS: tuple[Step, ...] = (
    # Checks of the code. The long ones come first: they run two at a time, and are over soonest like that.
    Step(
        "types",
        ("mypy", "app/dispatchd", "tests", "perf"),
        (*_APP, "tests/**", "perf/**", "pipelines/src/**"),
        ImageRole.PYTHON,
        environment={"MYPYPATH": "tests:pipelines/src"},
    ),
    Step(
        "infra-types",
        ("mypy", "src", "tests", "gitops/__main__.py", "clusters/__main__.py"),
        ("infra/**",),
        ImageRole.INFRA,
        workdir="infra",
    ),
    Step(
        "pipelines-types",
        ("mypy", "src", "tests", "scanners/tests"),
        ("pipelines/**",),
        ImageRole.PIPELINES,
        workdir="pipelines",
    ),
    Step("pipelines-test", ("pytest", "-q"), _EVERYTHING, ImageRole.PIPELINES, workdir="pipelines"),
    Step("k8s-validate", ("pytest", "-q", *_SCHEMA_TESTS), _MANIFESTS, ImageRole.INFRA, workdir="infra"),
    Step("render-check", ("infra", "render", "--check"), _MANIFESTS, ImageRole.INFRA),
    Step("fmt-check", ("ruff", "format", "--check", "."), _RUFF, ImageRole.PYTHON),
    Step("lint", ("ruff", "check", "."), _RUFF, ImageRole.PYTHON),
    Step("layers", ("lint-imports",), _APP, ImageRole.PYTHON),
    # Checks of the contract.
    Step("proto-lint", ("buf", "lint", "proto"), _PROTO, ImageRole.PYTHON),
    Step(
        "proto-breaking",
        ("buf", "breaking", "proto", "--against", "proto/dispatchd-v1-baseline.binpb"),
        _PROTO,
        ImageRole.PYTHON,
    ),
    Step("proto-fresh", ("python", "proto/generate.py", "--check"), (*_PROTO, "app/dispatchd/v1/**"), ImageRole.PYTHON),
    # What the last release promised is written by `make release` alone.
    Step(
        "release-unedited",
        ("python", "-m", "dispatchd_pipelines.releasing", "unedited"),
        ("CHANGELOG.md", "docs/**", "pipelines/src/**"),
        ImageRole.PYTHON,
        environment=_PYTHON_OF_OURS,
        history=True,
    ),
    # The test suites. Most tests wait for leases and processes, so that two at once are done sooner on two cores.
    Step("test", ("pytest", "-q", "-n", "2", "--dist", "worksteal"), _EVERYTHING, ImageRole.PYTHON, alone=True),
    Step(
        "infra-test",
        ("pytest", "-q", "-n", "2", "--dist", "worksteal", *(f"--ignore={file}" for file in _SCHEMA_TESTS)),
        _EVERYTHING,
        ImageRole.INFRA,
        workdir="infra",
        alone=True,
    ),
    # These measure how soon an installation of real processes recovers.
    Step(
        "singles",
        ("pytest", "-q", "-m", "faults", "tests/faults/test_single_faults.py"),
        (*_APP, "tests/**"),
        ImageRole.PYTHON,
        alone=True,
    ),
    Step(
        "singles-all",
        ("python", "-m", "faults.run", "singles", "--no-evidence"),
        (*_APP, "tests/**"),
        ImageRole.PYTHON,
        environment={"PYTHONPATH": "tests"},
        alone=True,
    ),
    # 5,000 messages, or as many as FUZZ_MESSAGES says, which are always the same.
    Step("hostile", ("pytest", "-q", "-m", "fuzz", "tests/fuzz"), (*_APP, "tests/**"), ImageRole.PYTHON, alone=True),
    # The real Pulumi and a real API server: both wait for processes, so that they are run beside each other.
    Step(
        "cluster-tier",
        ("pytest", "-q", "-m", "cluster_tier"),
        _EVERYTHING,
        ImageRole.INFRA,
        workdir="infra",
        needs=Needs.API_SERVER,
    ),
    Step(
        "gitops-tier",
        ("pytest", "-q", "-m", "gitops_tier"),
        _EVERYTHING,
        ImageRole.INFRA,
        workdir="infra",
        needs=Needs.PULUMI,
    ),
    Step(
        "build",
        ("python", "-m", "dispatchd_pipelines.wheel"),
        (*_APP, "proto/**", "README.md", "LICENSE", "CHANGELOG.md", "pipelines/src/**"),
        ImageRole.PYTHON,
        environment={"PYTHONPATH": "pipelines/src"},
        outputs=("dist/*",),
    ),
    # Builds the three images, and lets a job go through containers of them. IMAGE_BASE names another base.
    Step(
        "image-check",
        ("python", "-m", "images.check"),
        (
            *_APP,
            "tests/images/**",
            "infra/common.yaml",
            "Dockerfile",
            ".dockerignore",
            "uv.lock",
            "README.md",
            "LICENSE",
        ),
        ImageRole.PYTHON,
        environment={"PYTHONPATH": "tests"},
        needs=Needs.DAEMON,
        history=True,
        alone=True,
    ),
    # What an environment consists of, on standard output.
    *(
        Step(
            f"k8s-render-{environment}",
            ("kubectl", "kustomize", f"gitops/overlays/{environment}"),
            ("gitops/**",),
            ImageRole.INFRA,
        )
        for environment in ENVIRONMENTS
    ),
    *(
        Step(
            f"argocd-render-{environment}",
            ("infra", "render-cluster", "--env", environment, "--with-argocd"),
            _MANIFESTS,
            ImageRole.INFRA,
        )
        for environment in ENVIRONMENTS
    ),
    # The scans find what is planted, and then look at this repository.
    Step(
        "scanners-test",
        ("python", "-m", "pytest", "-q"),
        ("pipelines/scanners/**", *_SCANS, *_LOCKS),
        ImageRole.SCAN,
        workdir="pipelines/scanners",
    ),
    # Scans: what is found fails, unless pipelines/exceptions.toml excuses it for a time. See docs/scans.md.
    *(
        Step(
            f"scan-{name}",
            ("python", "-m", "dispatchd_pipelines.scans", name),
            (*inputs, *_SCANS),
            ImageRole.SCAN,
            environment=_PYTHON_OF_OURS,
            outputs=(f"build/scans/{name}.sarif",),
            needs=needs,
            history=name == "secrets",
        )
        for name, inputs, needs in (
            ("secrets", _EVERYTHING, Needs.NOTHING),
            ("code", ("app/**", "infra/**", "perf/**", "pipelines/**", "proto/**"), Needs.NOTHING),
            ("dockerfile", ("Dockerfile",), Needs.NOTHING),
            ("workflows", (".github/**", "pipelines/scanners/**"), Needs.NOTHING),
            ("dependencies", _LOCKS, Needs.NETWORK_DATABASE),
            ("go", ("infra/tools/**", "pipelines/scanners/**"), Needs.NETWORK_DATABASE),
        )
    ),
    # Each looks at the environment that it runs in.
    *(
        Step(
            f"scan-licences-{name}",
            ("python", "-m", "dispatchd_pipelines.scans", f"licences-{name}"),
            (*_SCANS, *inputs),
            role,
            environment=_PYTHON_OF_OURS,
            outputs=(f"build/scans/licences-{name}.sarif",),
        )
        for name, role, inputs in (
            ("app", ImageRole.PYTHON, ("uv.lock",)),
            ("infra", ImageRole.INFRA, ("infra/uv.lock",)),
            ("pipelines", ImageRole.PIPELINES, ("pipelines/requirements.lock",)),
            ("scanners", ImageRole.SCAN, ("pipelines/scanners/requirements.lock",)),
        )
    ),
    # What the application consists of when it is installed, in CycloneDX, as the lock file has it.
    Step(
        "sbom",
        (
            *("uv", "export", "--quiet", "--locked", "--no-dev", "--preview-features", "sbom-export"),
            *("--format", "cyclonedx1.5", "--output-file", "build/sbom/dispatchd.cdx.json"),
        ),
        ("uv.lock", "pyproject.toml"),
        ImageRole.PYTHON,
        outputs=("build/sbom/dispatchd.cdx.json",),
    ),
    # Thousands of jobs through the three roles while processes are killed, over servers that others run.
    Step(
        "integration",
        ("python", "-m", "dispatchd.demo", "--given-servers"),
        _APP,
        ImageRole.PYTHON,
        needs=Needs.SERVICES,
        alone=True,
    ),
)


def step(name: str) -> Step:
    """The step of this name; `UnknownStep` names the choices."""
    return select([name])[0]


def select(names: Sequence[str]) -> tuple[Step, ...]:
    """The steps of these names, in this order; `UnknownStep` names the choices."""
    by_name = {each.name: each for each in STEPS}
    unknown = tuple(name for name in names if name not in by_name)
    if unknown:
        raise UnknownStep(unknown, tuple(by_name))
    return tuple(by_name[name] for name in names)
