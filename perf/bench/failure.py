"""A run that measured nothing that may be shown."""


class BenchFailed(Exception):
    """A step failed, or counted something else than the database; the message says what."""


def require_equal(what: str, counted: int, in_database: int) -> None:
    """Raises BenchFailed if a driver and the database disagree: then the driver did not measure what it says."""
    if counted != in_database:
        raise BenchFailed(f"{what}: the driver counted {counted}, the database has {in_database}")
