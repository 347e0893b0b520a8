"""Options that several commands share."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from stream.settings import Settings, SettingsError, load_settings

Config = Annotated[Path | None, typer.Option("--config", help="TOML file with settings.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="One setting, as in learner.micro_batch=32; may be repeated.")
]
KafkaUrl = Annotated[str | None, typer.Option("--kafka", help="HOST:PORT[,HOST:PORT]; default: an embedded broker.")]
RedisUrl = Annotated[str | None, typer.Option("--redis", help="redis://HOST:PORT/DB; default: an embedded Redis.")]
MOST_VERSIONS = 1 << 53
"""Of weights, that numbers in JSON can tell apart."""
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line on stdout.")]


def gather(
    config: Path | None,
    overrides: list[str] | None,
    kafka: str | None = None,
    redis: str | None = None,
    *,
    defaults: Mapping[str, Any] | None = None,
) -> Settings:
    """Effective settings of a command; `defaults`, as `load_settings` has them, are those of a log."""
    urls = {name: url for name, url in (("kafka.url", kafka), ("redis.url", redis)) if url is not None}
    return load_settings(config, overrides=overrides or (), defaults=defaults, given=urls)


def usable_folder(folder: Path, option: str) -> Path:
    """A folder to write to, made if it is missing.

    Raises:
        SettingsError: it cannot be written to; names the option.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as exc:
        raise SettingsError(
            f"{option} {folder}: cannot be written to ({exc.strerror}); give a folder that can, or mend its rights"
        ) from exc
    return folder


def need_redis(settings: Settings, command: str) -> Settings:
    """For commands that attach to a Redis that runs already, and need no broker."""
    if not settings.redis.url:
        raise SettingsError(f"redis.url is empty; `coldstream {command}` attaches to a running Redis: give --redis")
    return settings


def need_urls(settings: Settings, command: str) -> Settings:
    """For roles that attach to servers that run already."""
    for section, url in (("kafka", settings.kafka.url), ("redis", settings.redis.url)):
        if not url:
            raise SettingsError(
                f"{section}.url is empty; `coldstream {command}` attaches to running servers: give --{section}, or use "
                "`coldstream up`, which brings its own"
            )
    return settings
