"""Where environments may differ: in objects (`Kind name`) and in values (`Kind name: path`), with wildcards.

Every line has to be needed, except where it says otherwise: one that no difference matches is reported too.
"""

_SETTINGS = "ConfigMap dispatchd-settings: data"
_CONTAINERS = "spec.template.spec.containers.*"

WRITTEN_BY_PROMOTION: tuple[str, ...] = (
    "ConfigMap dispatchd-region: data.REGION_EPOCH",
    "Cluster postgres: spec.bootstrap.*",
    f"Deployment *: {_CONTAINERS}.image",
    "Job migrate: spec.template.spec.*ontainers.*.image",
)
"""What `promote-image` and `promote-region` write, so that it differs at some times and at others not."""

PRODUCTION_FROM_STAGING: tuple[str, ...] = (
    # Names of the environment, and addresses made of them.
    "ConfigMap dispatchd-region: data.PRIMARY_REGION",
    f"{_SETTINGS}.APP_ENV",
    f"{_SETTINGS}.AUTH_JWT_ISSUER",
    f"{_SETTINGS}.REGION",
    "Certificate *: spec.dnsNames.*",
    # How much there is of it.
    f"Deployment *: {_CONTAINERS}.resources.*",
    "HorizontalPodAutoscaler *: spec.m??Replicas",
    f"StatefulSet redis: {_CONTAINERS}.resources.*",
    f"StatefulSet redis: {_CONTAINERS}.args.*",
    "Cluster postgres: spec.instances",
    "Cluster postgres: spec.postgresql.*",
    "Cluster postgres: spec.resources.*",
    "Cluster postgres: spec.storage.size",
    # Two regions, whose databases follow each other through their object stores.
    "ObjectStore *",
    "ScheduledBackup *",
    "Cluster postgres: spec.externalClusters.*",
    "Cluster postgres: spec.plugins.*.parameters.*",
    "Cluster postgres: spec.replica.*",
    # Nothing removes the database of production without being asked.
    "Cluster postgres: metadata.annotations.argocd.argoproj.io/sync-options",
)

STAGING_FROM_DEV: tuple[str, ...] = (
    "ConfigMap dispatchd-region: data.PRIMARY_REGION",
    f"{_SETTINGS}.APP_ENV",
    f"{_SETTINGS}.LOG_LEVEL",
    f"{_SETTINGS}.REGION",
    # How much there is of it; dev has one pod of each role.
    "Deployment *: spec.replicas",
    f"Deployment *: {_CONTAINERS}.resources.*",
    f"StatefulSet redis: {_CONTAINERS}.resources.*",
    "HorizontalPodAutoscaler *",
    "PodDisruptionBudget *",
    # The way in; a laptop has no balancer.
    "NetworkPolicy clients-outside: spec.ingress.0.from.*",
    "Service *-external: spec.type",
    "Service *-external: spec.ports.*.nodePort",
    # Component `auth`: tokens are needed.
    f"{_SETTINGS}.AUTH_*",
    "Deployment *: spec.template.spec.*.auth.*",
    # Component `tls`: connections are encrypted, and clients need a certificate.
    f"{_SETTINGS}.REDIS_*",
    f"{_SETTINGS}.TLS_*",
    "Certificate *",
    "Deployment *: spec.template.spec.*.tls.*",
    "Deployment *: spec.template.spec.*.redis.*",
    "Deployment *: spec.template.spec.*.database.*",
    "Job migrate: spec.template.spec.*.database.*",
    "Service *: spec.ports.grpc.appProtocol",
    "StatefulSet redis: spec.template.spec.*.tls.*",
    f"StatefulSet redis: {_CONTAINERS}.args.*",
    # Component `external-secrets`; dev's Secrets are made by `infra dev-secret`.
    "ExternalSecret *",
    # Component `observability`.
    "NetworkPolicy *-metrics",
    "PodMonitor postgres",
    "PrometheusRule dispatchd",
    "ServiceMonitor dispatchd",
    # Postgres: an operator's cluster with backups, instead of one pod.
    "Cluster postgres",
    "NetworkPolicy postgres-cluster",
    "ObjectStore *",
    "ScheduledBackup *",
    "Service postgres-rw",
    "ServiceAccount postgres",
    "StatefulSet postgres",
)
