"""Databases that are too open, or too easily away."""

from breaches.registry import breaks, everywhere
from policies import databases
from rendered import Rendered


@breaks(databases.databases_have_no_superuser_with_a_password)
def superuser_with_a_password(rendered: Rendered) -> None:
    everywhere(rendered, "Cluster", "postgres", lambda each: each["spec"].update(enableSuperuserAccess=True))


@breaks(databases.databases_outlive_drained_nodes)
def database_without_budget(rendered: Rendered) -> None:
    everywhere(rendered, "Cluster", "postgres", lambda each: each["spec"].pop("enablePDB"))


@breaks(databases.databases_outlive_drained_nodes)
def instances_on_one_node(rendered: Rendered) -> None:
    everywhere(
        rendered,
        "Cluster",
        "postgres",
        lambda each: each["spec"]["affinity"].update(podAntiAffinityType="preferred"),
    )
