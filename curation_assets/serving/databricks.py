"""A model serving endpoint of a Databricks workspace that serves a version of the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from curation_assets.clip.versions import RegisteredModel
from curation_assets.errors import CurationError, explained
from curation_assets.progress import Progress
from curation_assets.workspace import workspace_config, workspace_uri

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient
    from databricks.sdk.service.serving import ServedEntityInput, ServedEntityOutput, ServingEndpointDetailed

_ENTITY = "champion"  # one name for whatever version is served, so that the traffic's route stays


@dataclass(frozen=True)
class EndpointConfig:
    """What an endpoint is to be.

    Attributes:
        name: of the endpoint.
        workload_size: ``Small``, ``Medium`` or ``Large``: how many requests at once.
        workload_type: ``CPU``, ``GPU_SMALL``, … as Databricks names them.
        scale_to_zero: whether it costs nothing, and starts slowly, after a while without requests.
        timeout_minutes: how long to wait for it.
    """

    name: str
    workload_size: str
    workload_type: str
    scale_to_zero: bool
    timeout_minutes: float


@dataclass(frozen=True)
class Deployment:
    """What became of an endpoint.

    Attributes:
        action: ``created``, ``updated`` or ``unchanged``.
        state: ``READY`` or ``NOT_READY``.
        url: where requests go.
        page: its page in the workspace.
        config_version: the endpoint's own count of its configurations.
    """

    action: str
    state: str
    url: str
    page: str
    config_version: int


def deploy(model: RegisteredModel, config: EndpointConfig, progress: Progress) -> Deployment:
    """Make an endpoint serve a version, and wait until it does. One that serves it already is left alone.

    Raises:
        CurationError: no workspace is configured or it can't be reached, it refuses, or the endpoint doesn't get ready.
    """
    from databricks.sdk.errors import NotFound, OperationFailed
    from databricks.sdk.service.serving import EndpointCoreConfigInput, EndpointStateConfigUpdate, Route, TrafficConfig

    entity = _entity(model, config)
    traffic = TrafficConfig(routes=[Route(served_entity_name=_ENTITY, traffic_percentage=100)])
    with _understandable_errors(config):
        client = _client()
        try:
            endpoint = client.serving_endpoints.get(config.name)
        except NotFound:
            progress.note(f"creating endpoint {config.name} for {model.uri}")
            client.serving_endpoints.create(
                config.name,
                config=EndpointCoreConfigInput(name=config.name, served_entities=[entity], traffic_config=traffic),
            )
            action = "created"
        else:
            if endpoint.state is not None and endpoint.state.config_update == EndpointStateConfigUpdate.IN_PROGRESS:
                progress.note(f"endpoint {config.name} is being updated already; waiting for that")
                try:
                    endpoint = _wait(client, config, progress)
                except OperationFailed:  # not this update
                    endpoint = client.serving_endpoints.get(config.name)
            if _serves(endpoint, entity):  # whatever became of an update to another version
                return _deployment("unchanged", endpoint, client)
            progress.note(f"updating endpoint {config.name} to {model.uri}")
            client.serving_endpoints.update_config(config.name, served_entities=[entity], traffic_config=traffic)
            action = "updated"
        try:
            endpoint = _wait(client, config, progress)
        except OperationFailed:
            endpoint = client.serving_endpoints.get(config.name)
            reason = _reason(endpoint) or "no reason given; see its events"
            rest = "what it served before, it still serves" if _served(endpoint) else "it serves nothing yet"
            raise CurationError(
                f"endpoint {config.name} could not be {action} to serve {model.uri}: {reason}; {rest}"
            ) from None
        return _deployment(action, endpoint, client)


def _deployment(action: str, endpoint: ServingEndpointDetailed, client: WorkspaceClient) -> Deployment:
    host = str(client.config.host).rstrip("/")
    return Deployment(
        action=action,
        state=endpoint.state.ready.value if endpoint.state and endpoint.state.ready else "UNKNOWN",
        url=f"{host}/serving-endpoints/{endpoint.name}/invocations",
        page=f"{host}/ml/endpoints/{endpoint.name}",
        config_version=(endpoint.config.config_version or 0) if endpoint.config else 0,
    )


def _client() -> WorkspaceClient:
    from databricks.sdk import WorkspaceClient

    return WorkspaceClient(config=workspace_config(workspace_uri() or "databricks"))


def _entity(model: RegisteredModel, config: EndpointConfig) -> ServedEntityInput:
    from databricks.sdk.service.serving import ServedEntityInput, ServingModelWorkloadType

    return ServedEntityInput(
        name=_ENTITY,
        entity_name=model.name,
        entity_version=model.version,
        workload_size=config.workload_size,
        workload_type=ServingModelWorkloadType(config.workload_type),
        scale_to_zero_enabled=config.scale_to_zero,
    )


def _served(endpoint: ServingEndpointDetailed) -> list[ServedEntityOutput]:
    return (endpoint.config.served_entities if endpoint.config else None) or []


def _serves(endpoint: ServingEndpointDetailed, entity: ServedEntityInput) -> bool:
    served = _served(endpoint)
    keys = ("name", "entity_name", "entity_version", "workload_size", "workload_type", "scale_to_zero_enabled")
    return len(served) == 1 and all(getattr(served[0], key) == getattr(entity, key) for key in keys)


def _wait(client: WorkspaceClient, config: EndpointConfig, progress: Progress) -> ServingEndpointDetailed:
    """Until no update is under way. Raises ``OperationFailed`` or ``TimeoutError``."""
    told: list[str] = []

    def tell(endpoint: ServingEndpointDetailed) -> None:
        entities = (endpoint.pending_config.served_entities if endpoint.pending_config else None) or []
        states = [entity.state for entity in entities if entity.state is not None]
        words = [state.deployment_state_message or "" for state in states] or ["waiting"]
        message = f"endpoint {config.name}: {', '.join(words)}"
        if told[-1:] != [message]:
            told.append(message)
            progress.note(message)

    return client.serving_endpoints.wait_get_serving_endpoint_not_updating(
        config.name, timeout=timedelta(minutes=config.timeout_minutes), callback=tell
    )


def _reason(endpoint: ServingEndpointDetailed) -> str:
    entities = (endpoint.pending_config.served_entities if endpoint.pending_config else None) or []
    messages = [entity.state.deployment_state_message for entity in entities if entity.state is not None]
    return "; ".join(message for message in messages if message)


@contextmanager
def _understandable_errors(config: EndpointConfig) -> Iterator[None]:
    from databricks.sdk.errors import NotFound, PermissionDenied
    from databricks.sdk.errors.base import DatabricksError
    from requests.exceptions import RequestException

    def sentence(hint: str) -> Callable[[str], str]:
        return lambda reason: f"endpoint {config.name} can't be deployed: {reason}; {hint}"

    late = (
        f"endpoint {config.name} was not ready within {config.timeout_minutes:g} minutes; it goes on by itself: "
        "materialize clip_endpoint again to wait on, or raise CURATION_ENDPOINT_TIMEOUT_MINUTES"
    )
    others = (DatabricksError, RequestException, ValueError, OSError)
    with (
        explained(others, sentence("check DATABRICKS_HOST and the credentials")),
        explained(NotFound, sentence("check that the workspace has model serving")),
        explained(PermissionDenied, sentence("ask for the right to manage serving endpoints and to execute the model")),
        explained(TimeoutError, lambda _: late),
    ):
        yield
