"""Postgres outside dev: a CloudNativePG cluster that archives its write-ahead log to an object store.

::

    prod-region-a                                                prod-region-b
    Cluster postgres ──archive──▶ store prod-region-a ──restore──▶ Cluster postgres
                    ◀──restore── store prod-region-b ◀──archive──

Both regions have the same objects; only `primary` says who follows whom. A replica reads the archive of the other
region, and no connection leads from one region to the other. Each database archives under a server name of its own,
because CloudNativePG refuses to archive where another database's files are.
"""

from collections.abc import Mapping
from typing import Any

from dispatchd_infra.manifests.configuration import (
    DATABASE,
    DATABASE_SECRET,
    most_database_connections,
)
from dispatchd_infra.manifests.custom import CONFIRM_REMOVAL, custom_resource
from dispatchd_infra.manifests.labels import (
    APPLICATION,
    DATASTORE_PRIORITY,
    PART_OF,
    POSTGRES,
    SERVER_PODS,
)
from dispatchd_infra.manifests.pods import ARCHIVE_TIMEOUT_S
from dispatchd_infra.manifests.quantities import mebibytes
from dispatchd_infra.manifests.waves import Wave
from dispatchd_infra.objects import Object
from dispatchd_infra.region_state import Bootstrap, DatabaseRole, RegionState
from dispatchd_infra.settings import Capacity, Common, Environment, ObjectStorage, Stack

PLUGIN = "barman-cloud.cloudnative-pg.io"
BACKUP_SECRET = "dispatchd-backups"
"""Keys to this region's object store, which may also read the other region's."""
ACCESS_KEY_ID, SECRET_ACCESS_KEY = "ACCESS_KEY_ID", "SECRET_ACCESS_KEY"

SIDECAR = Capacity(cpu="100m", memory="512Mi")
"""What archives and restores, beside each instance."""

_API = "postgresql.cnpg.io/v1"
_RETENTION = "30d"
_NIGHTLY = "0 0 2 * * *"
"""At 02:00 UTC; the first field is seconds."""
_MORE_CONNECTIONS = 30
"""For the operator, and for people who look."""


def objects(common: Common, environment: Environment, stack: Stack) -> list[Object]:
    """The database of an environment that has one region: a cluster, its object store and its backups."""
    archive = f"{stack}-1"
    spec = {
        **_cluster(common, environment, stack, server_name=archive),
        "bootstrap": {"initdb": _new_database()},
    }
    store = _object_store(environment, stack, is_production=False)
    return [store, _cluster_object(spec), _scheduled_backup(archive)]


def region_objects(
    common: Common, environments: Mapping[Stack, Environment], own: RegionState, peer: RegionState
) -> list[Object]:
    """The database of one production region, as its state says; nothing if it has none yet.

    `environments` has the settings of both regions: each one's cluster has to find the other one's archive.
    """
    if own.role is DatabaseRole.ABSENT:
        return []
    bootstrap = {
        Bootstrap.INITDB: {"initdb": _new_database()},
        Bootstrap.RECOVERY: {"recovery": {"source": own.source, **_application()}},
    }[own.bootstrap]
    spec = {
        **_cluster(common, environments[own.stack], own.stack, server_name=own.server_name),
        "bootstrap": bootstrap,
        "replica": {
            "self": own.stack,
            "primary": own.stack if own.role is DatabaseRole.PRIMARY else own.source,
            "source": own.source,
            "promotionToken": own.token,
        },
        "externalClusters": [
            {"name": each.stack, "plugin": _plugin(each.stack, each.server_name, is_archiver=False)}
            for each in sorted((own, peer), key=lambda state: state.stack)
        ],
    }
    stores = [_object_store(environments[each], each, is_production=True) for each in sorted((own.stack, peer.stack))]
    return [*stores, _cluster_object(spec, *CONFIRM_REMOVAL), _scheduled_backup(own.server_name)]


def _cluster(common: Common, environment: Environment, stack: Stack, *, server_name: str) -> dict[str, Any]:
    """What every cluster has in common."""
    database = environment.database
    return {
        "imageName": common.postgres.reference,
        "instances": database.instances,
        "inheritedMetadata": {"labels": {PART_OF: APPLICATION}},
        "priorityClassName": DATASTORE_PRIORITY,
        "resources": {
            "requests": {"cpu": database.cpu, "memory": database.memory},
            "limits": {"memory": database.memory},
        },
        "storage": {"size": database.storage, "resizeInUseVolumes": True},
        "enableSuperuserAccess": False,
        "enablePDB": True,
        "primaryUpdateStrategy": "unsupervised",
        "primaryUpdateMethod": "switchover",
        "affinity": {
            "enablePodAntiAffinity": True,
            "podAntiAffinityType": "required",
            "topologyKey": "kubernetes.io/hostname",
        },
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "topology.kubernetes.io/zone",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": SERVER_PODS[POSTGRES]},
            }
        ],
        "postgresql": {"parameters": _parameters(environment), "synchronous": _synchronous(database.instances)},
        "plugins": [_plugin(stack, server_name, is_archiver=True)],
    }


def _application() -> dict[str, Any]:
    """The database of the roles and its owner. A replica makes no password, so that both regions have the same one."""
    return {"database": DATABASE, "owner": DATABASE, "secret": {"name": DATABASE_SECRET}}


def _new_database() -> dict[str, Any]:
    """Its owner may see which transactions are open, for which `dispatchd region apply` waits; so may a replica's."""
    return {**_application(), "postInitApplicationSQL": [f"grant pg_read_all_stats to {DATABASE}"]}


def _parameters(environment: Environment) -> dict[str, str]:
    """A standby must allow as many connections as its primary; so regions that replace each other have to be alike."""
    memory = mebibytes(environment.database.memory)
    return {
        # A replica in the other region is at most about this far behind, however little is written.
        "archive_timeout": f"{ARCHIVE_TIMEOUT_S}s",
        "effective_cache_size": f"{memory * 3 // 4}MB",
        "max_connections": str(most_database_connections(environment) + _MORE_CONNECTIONS),
        "shared_buffers": f"{memory // 4}MB",
    }


def _synchronous(instances: int) -> dict[str, Any]:
    """What was answered to a client is on two nodes. With three instances a commit waits until that is true; with two
    it would wait for every restart of the one standby, so there it goes on alone."""
    return {"method": "any", "number": 1, "dataDurability": "required" if instances > 2 else "preferred"}


def _plugin(store: Stack, server_name: str, *, is_archiver: bool) -> dict[str, Any]:
    return {
        "name": PLUGIN,
        "enabled": True,
        "isWALArchiver": is_archiver,
        "parameters": {"barmanObjectName": store, "serverName": server_name},
    }


def _cluster_object(spec: Mapping[str, Any], *sync_options: str) -> Object:
    return custom_resource(_API, "Cluster", POSTGRES, spec, wave=Wave.DATASTORES, sync_options=sync_options)


def _object_store(environment: Environment, stack: Stack, *, is_production: bool) -> Object:
    storage = environment.database.backups
    if storage is None:
        raise ValueError(f"{stack}: database.backups is missing, which the settings check")
    return custom_resource(
        "barmancloud.cnpg.io/v1",
        "ObjectStore",
        POSTGRES,
        {
            "retentionPolicy": _RETENTION,
            "configuration": _configuration(storage),
            "instanceSidecarConfiguration": {
                "resources": {
                    "requests": {"cpu": SIDECAR.cpu, "memory": SIDECAR.memory},
                    "limits": {"memory": SIDECAR.memory},
                }
            },
        },
        wave=Wave.DATASTORES,
        name=stack,
        sync_options=CONFIRM_REMOVAL if is_production else (),
    )


def _configuration(storage: ObjectStorage) -> dict[str, Any]:
    return {
        "destinationPath": storage.destination,
        "endpointURL": storage.endpoint,
        "s3Credentials": {
            "accessKeyId": {"name": BACKUP_SECRET, "key": ACCESS_KEY_ID},
            "secretAccessKey": {"name": BACKUP_SECRET, "key": SECRET_ACCESS_KEY},
        },
        "data": {"compression": "gzip"},
        "wal": {"compression": "gzip", "maxParallel": 4},
    }


def _scheduled_backup(archive: str) -> Object:
    """The first backup is taken at once: without one no other region can begin to follow. It is named after its
    archive, so that a rebuilt database, which begins a new one, has a first backup too."""
    spec = {
        "cluster": {"name": POSTGRES},
        "schedule": _NIGHTLY,
        "immediate": True,
        "method": "plugin",
        "pluginConfiguration": {"name": PLUGIN},
        "backupOwnerReference": "self",
    }
    return custom_resource(_API, "ScheduledBackup", POSTGRES, spec, wave=Wave.DATASTORES, name=archive)
