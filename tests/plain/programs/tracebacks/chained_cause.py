# /// plain
# sample = true
# ///
class ConfigError(Exception):
    """Ours."""


def load():
    try:
        open("missing.toml")
    except OSError as error:
        raise ConfigError("no configuration") from error


load()
