"""Settings, read once at the doors from `ASLGATE_*` and handed on as arguments."""

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


def _address(given: str) -> str:
    parts = urlsplit(given)
    if parts.scheme != "https" or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("must be an https URL without query and fragment")
    if parts.username is not None or not given.isascii() or not given.isprintable() or " " in given:
        raise ValueError("must be plain ASCII, and hold no user")
    return given.rstrip("/")


class Settings(BaseSettings):
    """What can be set. Every name is also an environment variable, `ASLGATE_` before it."""

    model_config = SettingsConfigDict(env_prefix="ASLGATE_", frozen=True, extra="ignore")

    database_url: SecretStr | None = None
    """A Postgres of version 15 or newer. Without it, the embedded one in `data_dir` is used."""
    data_dir: Path | None = None
    """Where the embedded Postgres keeps its data; by default under the user's data directory."""
    postgres_bin: Path | None = None
    """Postgres binaries to use instead of the wheel's."""
    service_role: str = Field(default="aslgate_service", min_length=1)
    """With `database_url`: the role that the service connects as. `migrate` makes it where there is
    none, and grants it what the service needs; it must not be the one that owns the tables."""
    require_replica: bool = False
    """Whether nothing is recorded unless every commit waits for a standby."""
    bootstrap_key: SecretStr | None = None
    """Becomes the first admin key at the first start; ignored once any key exists."""
    bootstrap_policy_roles: str = ""
    """Which roles of policies that key speaks for, separated by spaces; `*`: all of them."""
    issuers_file: Path | None = None
    """Whose tokens are believed beside API keys, and who they speak for: see `docs/operations.md`."""
    integrations_file: Path | None = None
    """Which orchestrators and registries may call without a key of ours: see `docs/integrations`."""
    requests_per_minute: int | None = Field(default=None, ge=1)
    """How often one credential may call each process; more is answered 429. By default as often as it
    likes."""
    tls_certificate_file: Path | None = None
    """The certificate that the service shows, in PEM with its chain; then it speaks HTTPS and nothing
    else."""
    tls_key_file: Path | None = None
    """The key of that certificate, in PEM."""
    tls_client_ca_file: Path | None = None
    """Whose certificates every client must show one of."""
    import_keys_file: Path | None = None
    """The public keys, PEM, of those who may sign evaluation logs; see `docs/integrations/`."""
    log_name: str = "localhost/aslgate"
    """The ledger's name, a URL without its scheme. Fixed at the first start."""
    public_url: Annotated[str, AfterValidator(_address)] | None = None
    """Where callers reach the service, an https URL. Where it is set, answers that hold addresses hold
    whole ones, and AuthZEN's discovery document is served."""
    attestation_key_file: Path | None = None
    """The Ed25519 key, PKCS #8 in PEM, that signs attestations; replicas share it. With the embedded
    Postgres one is made in `data_dir` where none is given; with `database_url` there are none then."""
    ledger_key_file: Path | None = None
    """The keys that sign checkpoints, one a line. With the embedded Postgres one is made in `data_dir`
    where none is given; with `database_url` nothing is signed then."""
    ledger_key: SecretStr | None = None
    """The same keys themselves, instead of a file."""
    ledger_state_file: Path | None = None
    """Where the last checkpoint is kept, outside the database, which must extend it; by default in
    `data_dir` where there is a key. Without a key, it is that which others sign."""
    witnesses: str = ""
    """Who is asked to cosign checkpoints: the verifier key and the address of each."""
    witness_quorum: int = Field(default=0, ge=0)
    """How many witnesses must have cosigned a checkpoint before it is shown."""
    max_body_bytes: int = Field(default=1024 * 1024, ge=1024)
    """The largest request body that is read."""
    body_seconds: float = Field(default=5.0, gt=0)
    """How long a request's headers, and then its body, may take to arrive."""
    backtests_at_once: int = Field(default=2, ge=1)
    """How many backtests a process runs at once; some wait, and more are answered 503."""
    explanations_at_once: int = Field(default=2, ge=1)
    """How many explanations, settlings, diffs, replays and searches at once; likewise."""
    requests_at_once: int = Field(default=64, ge=1)
    """How many requests that read, and how many others, a process serves at once; more wait a moment, and are then answered 503."""
    drain_seconds: float = Field(default=1.0, ge=0)
    """How long, from SIGTERM on, `/readyz` says 503 while all that comes is still served."""
    deadline_seconds: float = Field(default=2.0, gt=0)
    """How long a write may wait before it is answered 503."""
