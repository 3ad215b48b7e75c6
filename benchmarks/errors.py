"""Errors a user can cause and mend."""


class InputError(ValueError):
    """Bad input: the message names the bad value and the valid choices.

    Entry points print the message alone, without a traceback, and exit with code 2.
    """
