"""Kubernetes' quantities as numbers, as far as the settings have them."""

from dispatchd_infra.settings import Cpu, Size

_MEBIBYTES = {"Mi": 1, "Gi": 1024, "Ti": 1024 * 1024}


def mebibytes(size: Size) -> int:
    """`2Gi` as 2048."""
    return int(size[:-2]) * _MEBIBYTES[size[-2:]]


def millicores(cpu: Cpu) -> int:
    """Thousandths of a processor: `2` as 2000, and `250m` as 250."""
    return int(cpu[:-1]) if cpu.endswith("m") else int(cpu) * 1000
