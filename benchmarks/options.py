"""Options of the commands that do without Hydra: `key=value` words."""

from collections.abc import Iterable, Mapping

from benchmarks.errors import InputError


def parse_options(words: Iterable[str], defaults: Mapping[str, str]) -> dict[str, str]:
    """The defaults, with what the words set.

    Raises:
        InputError: an unknown key, or one without a value.
    """
    options = dict(defaults)
    for word in words:
        key, _, value = word.partition("=")
        if key not in options:
            raise InputError(f"{word!r} is unknown; give key=value with {', '.join(options)}")
        if not value:
            raise InputError(f"{word!r} has no value; give {key}=VALUE")
        options[key] = value
    return options
