"""Rows of published sets that cannot be judged."""


class LeftOut(ValueError):
    """A row that is as published and still cannot be judged; the message says why."""
