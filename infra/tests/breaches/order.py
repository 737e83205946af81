"""Waves in which something would wait for ever."""

from breaches.registry import breaks, everywhere
from policies import waves
from rendered import Rendered

_WAVE = "argocd.argoproj.io/sync-wave"


@breaks(waves.nothing_needs_a_later_wave)
def service_that_comes_after_its_stateful_set(rendered: Rendered) -> None:
    everywhere(rendered, "Service", "redis", lambda each: each["metadata"]["annotations"].update({_WAVE: "1"}))


@breaks(waves.the_schema_comes_between_datastores_and_roles)
def migrate_after_the_roles(rendered: Rendered) -> None:
    everywhere(rendered, "Job", "migrate", lambda each: each["metadata"]["annotations"].update({_WAVE: "1"}))


@breaks(waves.the_schema_comes_between_datastores_and_roles)
def migrate_is_no_hook(rendered: Rendered) -> None:
    everywhere(rendered, "Job", "migrate", lambda each: each["metadata"]["annotations"].pop("argocd.argoproj.io/hook"))


@breaks(waves.generated_config_maps_come_first)
def region_leaves_argo_cd_out_of_sync(rendered: Rendered) -> None:
    everywhere(
        rendered,
        "ConfigMap",
        "dispatchd-region",
        lambda each: each["metadata"]["annotations"].pop("argocd.argoproj.io/compare-options"),
    )
