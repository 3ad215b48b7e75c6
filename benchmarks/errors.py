"""Errors a user can cause and mend."""


class InputError(ValueError):
    """Bad input: the message names the bad value and the valid choices.

    Entry points print the message alone, without a traceback, and exit with code 2.
    """


class NeedNotMetError(Exception):
    """The dataset or the installation lacks something that a method or a mask cannot do without.

    The cell is skipped, with this as its reason.
    """
