"""The errors that a person can mend: one line, exit code 2, no trace."""


class UserError(Exception):
    """The config, the command line or the data is wrong; the message says what would be right."""


class ConfigError(UserError):
    """A config key has a value that cannot be used.

    A part raises it with the name of its own argument; `build` and `config` put the path of the part in
    front, so that the message names the key as it is typed: `noise.p=1.5: must lie in [0, 1]`.
    """

    def __init__(self, key: str, value: object, why: str):
        self.key, self.value, self.why = key, value, why
        super().__init__(f"{key}={value}: {why}" if value is not None else f"{key}: {why}")

    def under(self, path: str) -> "ConfigError":
        """The same error with the key written in full."""
        return ConfigError(".".join(part for part in (path, self.key) if part), self.value, self.why)


class DataError(UserError):
    """A data file is missing, unreadable or holds what cannot be trained on."""


class NotFinite(Exception):
    """A term of the objective became infinite or NaN; training cannot go on."""


class Interrupted(BaseException):
    """SIGINT or SIGTERM arrived. Not an Exception, so that nothing on the way out swallows it."""

    def __init__(self, signum: int, resumable: str = ""):
        self.signum = signum
        self.resumable = resumable  # the run directory that has a checkpoint of where it stopped
        super().__init__(f"interrupted by signal {signum}")


def require(condition: bool, key: str, value: object, why: str) -> None:
    """Raise ConfigError for `key` unless `condition` holds."""
    if not condition:
        raise ConfigError(key, value, why)


def one_line(error: BaseException) -> str:
    """The first line of an error's message that says something."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
