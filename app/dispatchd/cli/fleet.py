"""`dispatchd workers` and `dispatchd queues`: who works, and what waits."""

import click

from dispatchd.cli.failures import EXIT_CODES
from dispatchd.cli.parameters import Server, as_json, server_options
from dispatchd.cli.words import age_in_words, duration_in_words


@click.command(
    epilog=f"Example: dispatchd workers --json | jq '.workers[] | select(.status == \"ready\")'\n\n{EXIT_CODES}"
)
@server_options
@as_json
def workers(server: Server, as_json: bool) -> None:
    """List the workers and what each holds."""
    from dispatchd.cli.control_plane_client import open_client
    from dispatchd.cli.shapes import worker_shape
    from dispatchd.cli.show import show_json, show_table

    with open_client(server) as client:
        found = list(client.workers())
    if as_json:
        show_json({"workers": [worker_shape(worker) for worker in found]})
        return
    show_table(
        ("worker", "status", "capabilities", "held#", "slots#", "gateway", "last seen", "labels"),
        (
            (
                worker.worker_id,
                worker.status.value,
                " ".join(worker.capabilities),
                str(worker.held),
                str(worker.max_concurrency),
                worker.gateway,
                age_in_words(worker.last_seen_at),
                " ".join(f"{key}={value}" for key, value in sorted(worker.labels.items())),
            )
            for worker in found
        ),
        nothing="No worker has registered yet.",
    )


@click.command(epilog=f"Example: dispatchd queues\n\n{EXIT_CODES}")
@server_options
@as_json
def queues(server: Server, as_json: bool) -> None:
    """List what waits for each capability.

    Ready executions could start now; delayed ones wait for a retry or for their time.
    """
    from dispatchd.cli.control_plane_client import open_client
    from dispatchd.cli.shapes import queue_shape
    from dispatchd.cli.show import show_json, show_table

    with open_client(server) as client:
        found = client.queues()
    if as_json:
        show_json({"queues": [queue_shape(queue) for queue in found]})
        return
    show_table(
        ("capability", "ready#", "oldest#", "delayed#"),
        (
            (
                queue.capability,
                f"{queue.depth:,}",
                duration_in_words(queue.oldest_age) if queue.depth else "",
                f"{queue.delayed:,}",
            )
            for queue in found
        ),
        nothing="Nothing waits.",
    )
