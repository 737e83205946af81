"""The profiles, which `profiles.json` holds in k6's own terms."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Profile:
    """`callers` bounds the calls under way at once; more arrivals than they can take are dropped and counted.

    A stage reaches its target, in jobs a second, by and by within its duration. `thresholds` are k6's, by metric.
    """

    says: str
    start_rate: int
    stages: list[dict[str, int | str]]
    callers: int
    thresholds: Mapping[str, list[str]]

    def to_json(self) -> str:
        """As `load.js` reads it."""
        return json.dumps(asdict(self))


PROFILES: Mapping[str, Profile] = {
    name: Profile(**fields)
    for name, fields in json.loads(Path(__file__).with_name("profiles.json").read_text(encoding="utf-8")).items()
}
