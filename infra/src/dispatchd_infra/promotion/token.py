"""The promotion token: what CloudNativePG shows in the status of a Cluster that it has demoted.

It is no secret. It is base64 of JSON with the position in the write-ahead log at which the old primary ended.
"""

import base64
import binascii
import json

from dispatchd_infra.region_state import StateRefused

_NEEDED = ("databaseSystemIdentifier", "latestCheckpointTimelineID", "latestCheckpointREDOLocation")


def check(token: str) -> None:
    """Raises StateRefused if this can't be a token, so that a cut-off copy is found before it is merged."""
    try:
        content = json.loads(base64.b64decode(token, validate=True))
    except (binascii.Error, ValueError):
        content = None
    if not isinstance(content, dict):
        raise StateRefused("--token: this is no promotion token, which is base64 of JSON; copy it as a whole")
    missing = [key for key in _NEEDED if not content.get(key)]
    if missing:
        raise StateRefused(f"--token: this promotion token lacks {', '.join(missing)}; copy it again from the status")
