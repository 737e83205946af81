"""`infra render-cluster`: prints what a cluster has before Argo CD."""

from pathlib import Path

import click

from dispatchd_infra.emit import body
from dispatchd_infra.folders.argocd import bootstrap
from dispatchd_infra.manifests import cluster
from dispatchd_infra.settings import ENVIRONMENTS, Stack, read_common, read_environment


@click.command("render-cluster")
@click.option(
    "--env",
    "name",
    type=click.Choice([str(stack) for stack in ENVIRONMENTS]),
    required=True,
    help="The environment that the cluster is for.",
)
@click.option(
    "--with-argocd",
    is_flag=True,
    help="Also the project `bootstrap` and the root Application, for a cluster that has Argo CD.",
)
@click.pass_obj
def render_cluster(infra: Path, name: str, with_argocd: bool) -> None:
    """Print what a cluster needs before Argo CD.

    Namespaces with their Pod Security and quotas, priority classes, and the rights of operators and CI. `kubectl apply
    --server-side -f -` takes it as it is; the program infra/clusters applies the same objects.
    """
    stack = Stack(name)
    common, environment = read_common(infra), read_environment(infra, stack)
    objects = cluster.objects(common, environment)
    if with_argocd:
        objects += bootstrap(common, stack)
    click.echo("---\n".join(body(each) for each in objects), nl=False)
