"""How a breach of a policy is made: in memory, in every environment that has the object.

It is made everywhere, so that the policies that compare environments have nothing to say about it.
"""

from collections.abc import Callable
from dataclasses import dataclass

from dispatchd_infra.objects import Object
from rendered import Policy, Rendered, of_kind, plain_name


@dataclass(frozen=True, slots=True)
class Breach:
    """A breach of a policy; the name of the function says what is broken."""

    policy: Policy
    breaks: Callable[[Rendered], None]

    def __str__(self) -> str:
        return f"{self.policy.__name__}-{self.breaks.__name__}"


BREACHES: list[Breach] = []


def breaks(policy: Policy) -> Callable[[Callable[[Rendered], None]], Callable[[Rendered], None]]:
    """Registers a function that breaks what is rendered, so that this policy objects and no other."""

    def register(function: Callable[[Rendered], None]) -> Callable[[Rendered], None]:
        BREACHES.append(Breach(policy, function))
        return function

    return register


def everywhere(rendered: Rendered, kind: str, name: str, change: Callable[[Object], object]) -> None:
    """Changes one object in each overlay that has it; one at least must have it."""
    found = [each for objects in rendered.overlays.values() for each in of_kind(objects, kind) if is_named(each, name)]
    assert found, f"no overlay has {kind} {name}"
    for each in found:
        change(each)


def is_named(value: Object, name: str) -> bool:
    """Whether this is the name, without the hash of a generator."""
    return plain_name(value) == name


def pod(value: Object) -> Object:
    """The pod of a template."""
    spec: Object = value["spec"]["template"]["spec"]
    return spec


def container(value: Object) -> Object:
    """The first container of a template's pod."""
    first: Object = pod(value)["containers"][0]
    return first
