"""The one error of this package."""


class Refused(Exception):
    """This can't be released as it stands; each line of the text says what to change."""
