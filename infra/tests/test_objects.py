"""Typed arguments become plain objects, in the command and in a Pulumi program, where an event loop runs already."""

import asyncio
from typing import Any

import pulumi
import pytest
from pulumi_kubernetes.core.v1 import ContainerArgs, ContainerPortArgs, PodInitArgs, PodSpecArgs
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs

from dispatchd_infra.objects import object_of


def pod(name: Any) -> PodInitArgs:
    container = ContainerArgs(name="c", ports=[ContainerPortArgs(container_port=8080)])
    return PodInitArgs(
        api_version="v1",
        kind="Pod",
        metadata=ObjectMetaArgs(name=name, labels={"snake_case": "kept"}),
        spec=PodSpecArgs(containers=[container]),
    )


PLAIN = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "one", "labels": {"snake_case": "kept"}},
    "spec": {"containers": [{"name": "c", "ports": [{"containerPort": 8080}]}]},
}


def test_fields_get_their_names_in_kubernetes_and_integers_stay_integers() -> None:
    value = object_of(pod("one"))

    assert value == PLAIN
    assert type(value["spec"]["containers"][0]["ports"][0]["containerPort"]) is int


async def _in_a_program() -> None:
    assert object_of(pod("one")) == PLAIN
    later = pulumi.Output.from_input(asyncio.get_running_loop().create_future())
    with pytest.raises(TypeError, match="PodInitArgs holds a value that is known only after other resources"):
        object_of(pod(later))


def test_works_while_an_event_loop_runs_and_refuses_what_is_not_known_yet() -> None:
    # Not by asyncio.run, which leaves the thread without the event loop that Pulumi takes in other tests.
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(_in_a_program())
    finally:
        loop.close()
