"""Secrets where everybody can read them."""

from breaches.registry import breaks, container, everywhere
from dispatchd_infra.objects import Object
from policies import secrets
from rendered import Rendered


@breaks(secrets.no_secret_is_rendered)
def secret_with_content(rendered: Rendered) -> None:
    def give_away(deployment: Object) -> None:
        container(deployment)["env"].append({"name": "AUTH_JWT_SHARED_SECRET", "value": "x" * 40})

    everywhere(rendered, "Deployment", "control-plane", give_away)


@breaks(secrets.no_secret_is_rendered)
def password_in_a_url(rendered: Rendered) -> None:
    everywhere(
        rendered,
        "ConfigMap",
        "dispatchd-settings",
        lambda each: each["data"].update(OTLP_ENDPOINT="https://user:s3cr3t@otlp.example:4317"),
    )


@breaks(secrets.no_secret_is_rendered)
def clear_text_secret_for_the_cluster(rendered: Rendered) -> None:
    for objects in rendered.cluster.values():
        objects.append(
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}, "stringData": {"password": "x"}}
        )


@breaks(secrets.mutations_are_never_allowed_by_hand)
def mutations_allowed_in_the_settings(rendered: Rendered) -> None:
    everywhere(rendered, "ConfigMap", "dispatchd-settings", lambda each: each["data"].update(ALLOW_MUTATIONS="false"))
