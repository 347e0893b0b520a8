"""Errors that an operator must act on."""


class OperatorError(Exception):
    """A condition that a person has to mend; its message names the thing, its value, what is allowed and what to do.

    The command line prints the message without a traceback and exits with a status other than 0.
    """


class LostOwnershipError(OperatorError):
    """Another learner has taken the pipeline over: this one must write nothing more."""


def lost_ownership(prefix: str) -> LostOwnershipError:
    """The error, in words for whoever starts learners."""
    return LostOwnershipError(
        f"another learner has taken redis.prefix {prefix!r} over, as this one had not moved for a while; "
        "stop one of them, or set redis.prefix"
    )
