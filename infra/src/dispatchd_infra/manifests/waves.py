"""In which order Argo CD applies what belongs together: a wave begins when everything before it is healthy."""

from enum import IntEnum

ANNOTATION = "argocd.argoproj.io/sync-wave"


class Wave(IntEnum):
    """An object only refers to objects of its own wave or an earlier one."""

    SETTINGS = -4
    """Service accounts, network policies, config maps."""
    SECRETS = -3
    """External secrets and certificates."""
    DATASTORES = -2
    MIGRATE = -1
    ROLES = 0
    """What has no annotation is here too."""


def in_wave(wave: Wave) -> dict[str, str]:
    """The annotation that puts an object into a wave."""
    return in_wave_number(wave.value)


def in_wave_number(number: int) -> dict[str, str]:
    """The same for a wave of Argo CD's own objects, which are in waves of their own."""
    return {ANNOTATION: str(int(number))}
