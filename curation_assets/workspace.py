"""The Databricks workspace that MLflow's variables, or Databricks' own, name, if they do."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curation_assets.errors import CurationError

if TYPE_CHECKING:
    from databricks.sdk.config import Config

_REACHED: set[str] = set()  # workspaces that answered this process
_SECONDS = 15


def workspace_uri(environ: Mapping[str, str] = os.environ) -> str | None:
    """MLflow's URI of the workspace whose registry is in use; None if the registry is not one of Databricks."""
    uri = environ.get("MLFLOW_REGISTRY_URI") or environ.get("MLFLOW_TRACKING_URI") or ""
    return uri if is_workspace(uri) else None


def is_workspace(uri: str) -> bool:
    """Whether one of MLflow's URIs names a Databricks workspace."""
    return uri.partition(":")[0] in ("databricks", "databricks-uc")


def is_configured(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether Databricks' own variables or its file of profiles name a workspace."""
    file = Path(environ.get("DATABRICKS_CONFIG_FILE") or "~/.databrickscfg")
    named = environ.get("DATABRICKS_HOST") or environ.get("DATABRICKS_CONFIG_PROFILE")
    return bool(named) or file.expanduser().is_file()


def workspace_config(uri: str, **options: Any) -> Config:
    """Address and credentials of a workspace that answers.

    Args:
        uri: in MLflow's words: ``databricks``, ``databricks-uc``, ``databricks://profile``.
        options: of ``Config``, in the place of such as suit few and small requests.

    Raises:
        CurationError: it doesn't answer, or no address or no credentials are configured.
    """
    import requests
    from databricks.sdk.config import Config

    profile = uri.partition("://")[2] or None
    host = os.environ.get("DATABRICKS_HOST", "")
    try:
        if profile is None and host and host not in _REACHED:
            # Databricks' library goes on trying for minutes, and nothing can tell it not to where MLflow calls it.
            address = host if "://" in host else f"https://{host}"
            requests.get(address, timeout=_SECONDS, allow_redirects=False).close()
            _REACHED.add(host)
        return Config(profile=profile, **{"retry_timeout_seconds": _SECONDS, "http_timeout_seconds": 60} | options)
    except (OSError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].partition(". Config: ")[0]
        which = "" if uri == "databricks" else f" of {uri}"
        raise CurationError(
            f"the Databricks workspace{which} can't be used: {reason}; check DATABRICKS_HOST, DATABRICKS_TOKEN or "
            "the profile"
        ) from error
