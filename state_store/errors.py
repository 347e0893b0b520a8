"""The base of every error that an operator must act on."""


class OperatorError(Exception):
    """A condition that a person has to mend; its message names the thing, its value, what is allowed and what to do.

    The command line prints the message without a traceback and exits with a status other than 0.
    """
