"""`putgate-operator`: the command line, and nothing else."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import sys
from importlib.metadata import version

import click
import structlog

from putgate_operator.app import Options
from putgate_operator.app import run as run_operator
from putgate_operator.errors import OperatorError
from putgate_operator.observed import OperatorSettings, Peer


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="putgate")
def main() -> None:
    """Putgate's operator: it turns UploadBucket objects into running signing APIs."""


@main.command("run")
@click.option("--namespace", "namespaces", multiple=True, help="A namespace to look after; repeat it. Default: all.")
@click.option("--image", required=True, help="The image of the API pods.")
@click.option("--image-pull-policy", type=click.Choice(["Always", "IfNotPresent", "Never"]), default="IfNotPresent")
@click.option(
    "--lease-namespace", envvar="POD_NAMESPACE", required=True, help="Where the Lease is.  [env: POD_NAMESPACE]"
)
@click.option(
    "--lease-name",
    default="putgate-operator",
    show_default=True,
    help="The Lease: of the operators that share one, one works.",
)
@click.option("--health-port", type=click.IntRange(0, 65535), default=8082, show_default=True)
@click.option("--workers", type=click.IntRange(1, 64), default=8, show_default=True, help="UploadBuckets at once.")
@click.option(
    "--max-concurrent-rollouts",
    type=click.IntRange(1, 1000),
    default=10,
    show_default=True,
    help="How many Deployments an upgrade of this operator rolls at once.",
)
@click.option("--resync-seconds", type=click.FloatRange(min=1), default=600, show_default=True)
@click.option("--api-server-url", default="https://kubernetes.default.svc", show_default=True, help="As pods name it.")
@click.option(
    "--pod-label",
    "pod_labels",
    multiple=True,
    metavar="KEY=VALUE",
    help="The operator's own pods, for NetworkPolicies.",
)
@click.option(
    "--monitoring",
    "monitoring",
    multiple=True,
    metavar="NAMESPACE",
    help="A namespace whose pods may reach the admin ports; repeat it.",
)
def run_command(
    *,
    namespaces: tuple[str, ...],
    image: str,
    image_pull_policy: str,
    lease_namespace: str,
    lease_name: str,
    health_port: int,
    workers: int,
    max_concurrent_rollouts: int,
    resync_seconds: float,
    api_server_url: str,
    pod_labels: tuple[str, ...],
    monitoring: tuple[str, ...],
) -> None:
    """Look after UploadBuckets until SIGTERM."""
    _log_to_stderr()
    settings = OperatorSettings(
        image=image,
        image_pull_policy=image_pull_policy,
        version=version("putgate"),
        max_concurrent_rollouts=max_concurrent_rollouts,
        operator_namespace=lease_namespace,
        operator_pod_labels=_pairs(pod_labels),
        monitoring=tuple(Peer(namespace_labels={"kubernetes.io/metadata.name": name}) for name in monitoring),
        api_server_url=api_server_url,
    )
    options = Options(
        settings=settings,
        namespaces=namespaces,
        lease_namespace=lease_namespace,
        lease_name=lease_name,
        # A restarted container has its pod's name too, but must not pass for its predecessor.
        identity=f"{os.environ.get('POD_NAME') or socket.gethostname()}_{secrets.token_hex(4)}",
        health_port=health_port,
        workers=workers,
        resync=resync_seconds,
    )
    try:
        asyncio.run(run_operator(options))
    except (OSError, OperatorError) as error:
        print(f"putgate-operator: {error}", file=sys.stderr)
        sys.exit(1)


def _pairs(texts: tuple[str, ...]) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    if wrong := [text for text, (key, equals, _) in zip(texts, pairs, strict=True) if not key or not equals]:
        raise click.BadParameter(f"{wrong[0]!r} is not KEY=VALUE", param_hint="--pod-label")
    return {key: value for key, _, value in pairs}


def _log_to_stderr() -> None:
    """One JSON object a line, of the libraries too; they tell of requests in passing, so only of their troubles."""
    shared: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    # It warns at every start that signals are not its own, which is as it should be.
    logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)
