"""What crane says of a registry, and what is made of it. The words are those of crane v0.21.8 and of an engine."""

import pytest

from dispatchd_pipelines.registry import NotFound, Refused, RegistryError, Unreachable, error_of

REFERENCE = "ghcr.io/owner/dispatchd-scheduler:v1.2.3"
HEAD = (
    "2026/11/28 19:31:19 HEAD request failed, falling back on GET: HEAD http://localhost:15000/v2/a/b/manifests/nope:"
    " unexpected status code 404 Not Found (HEAD responses have no body, use GET for details)\n"
)
PLACE = "Error: GET http://localhost:15000/v2/a/b/manifests/nope:"


@pytest.mark.parametrize(
    ("printed", "means"),
    [
        (f"{HEAD}{PLACE} MANIFEST_UNKNOWN: Unknown manifest\n", NotFound),
        (f"{HEAD}{PLACE} NAME_UNKNOWN: Unknown name\n", NotFound),
        (f"{PLACE} unexpected status code 404 Not Found\n", NotFound),
        (f"{PLACE} UNAUTHORIZED: authentication required; [map[Action:pull]]\n", Refused),
        (f"{PLACE} DENIED: requested access to the resource is denied\n", Refused),
        (f"{PLACE} unexpected status code 403 Forbidden\n", Refused),
        (f"{HEAD}{PLACE} DENIED: denied\n", Refused),
        ("failed to push: denied: permission_denied: write_package", Refused),
        ("failed to authorize: 401 Unauthorized", Refused),
        (f"{HEAD}Error: Get https://localhost:15000/v2/: dial tcp: connect: connection refused\n", Unreachable),
        (f"{PLACE} TOOMANYREQUESTS: rate limit exceeded\n", Unreachable),
        ("", Unreachable),
    ],
)
def test_a_missing_tag_a_refusal_and_no_answer_are_told_apart(printed: str, means: type[RegistryError]) -> None:
    error = error_of(REFERENCE, printed)
    assert type(error) is means
    assert REFERENCE in str(error)
    assert len(str(error).splitlines()) == 1
