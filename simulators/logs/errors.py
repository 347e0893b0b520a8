"""What can be wrong with a log, other than single rows."""

from state_store.errors import OperatorError


class DataError(OperatorError):
    """A data set is not where it should be, or is not what it should be."""


class MappingError(OperatorError):
    """A mapping file is not of its form, or does not fit the data."""
