"""Which files of the working tree the module gets to see: an allow-list, in the form of `.dockerignore`.

Nothing else leaves the machine for an engine: no environment, no build output, and no file with a password that lies
about. Of two patterns that match a path, the later one counts.
"""

ADMITTED = (
    ".ci",
    ".dockerignore",
    ".github",
    ".gitignore",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Dockerfile",
    "LICENSE",
    "Makefile",
    "README.md",
    "app",
    "compose.yaml",
    "dagger.json",
    "docs",
    "evidence",
    "gitops",
    "infra",
    "perf",
    "pipelines",
    "proto",
    "pyproject.toml",
    "tests",
    "uv.lock",
)
"""Files and folders at the top."""

NEVER = (
    "**/.venv",
    "**/__pycache__",
    "**/*.egg-info",
    "**/.mypy_cache",
    "**/.ruff_cache",
    "**/.pytest_cache",
    "**/.hypothesis",
    "**/node_modules",
    "pipelines/sdk",
)
"""What is no source, wherever it lies."""

IGNORE = ["**", *(f"!{path}" for path in ADMITTED), *NEVER]
