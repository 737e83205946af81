"""The images of others that the module runs, each by a digest that was seen in public; docs/versions.md says where.

They are the defaults of the module's own arguments, so that a run without the public registries names others and
changes no code.
"""

from dataclasses import dataclass

PYTHON = (
    "docker.io/library/python:3.13.15-slim-trixie"
    "@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b"
)
GO = "golang:1.26.8@sha256:0f063af2d465d8dcae54cce04278ada488b96f77b42449c8d071e47d016cc65a"
TRIVY = "aquasec/trivy:0.72.0@sha256:cffe3f5161a47a6823fbd23d985795b3ed72a4c806da4c4df16266c02accdd6f"
POSTGRES_15 = "postgres:15-alpine@sha256:fe0737ba566a2c5b2a28f34433c0a423261900ec17b9bf7ad115e1aae7e57f1b"
POSTGRES_18 = "postgres:18@sha256:4ef4dbc939d61acea57712655ddb4b4ab27419c913f94cca0cd57cb3ea3c2280"
REDIS_6_2 = "redis:6.2-alpine@sha256:905c4ee67b8e0aa955331960d2aa745781e6bd89afc44a8584bfd13bc890f0ae"
REDIS_8 = "redis:8-alpine@sha256:9d317178eceac8454a2284a9e6df2466b93c745529947f0cd42a0fa9609d7005"

UV = "0.13.9"
"""The uv that installs the environments, as in the Makefile."""
CRANE = "v0.21.8"
"""The registry tool, a Go module: Go checks it against the public checksum database before it builds it."""


@dataclass(frozen=True, slots=True)
class Pins:
    """What one run uses."""

    python: str = PYTHON
    go: str = GO
    trivy: str = TRIVY
    postgres_15: str = POSTGRES_15
    postgres_18: str = POSTGRES_18
    redis_6_2: str = REDIS_6_2
    redis_8: str = REDIS_8
