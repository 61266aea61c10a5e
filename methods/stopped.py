"""The exception with which a method stops the whole run."""


class StoppedError(RuntimeError):
    """The method cannot go on, for a reason that is no fault of the sample it was asked for.

    Money that is spent, a key that is not accepted, a workflow that the server does not know: the
    run ends with the message, and what has no image yet stays pending. The same command goes on
    from there. A `Failure` in its place would count as a miss of the method.
    """
