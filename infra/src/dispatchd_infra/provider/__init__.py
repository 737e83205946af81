"""The Pulumi provider `gitops`: it starts as the executable `infra/plugins/pulumi-resource-gitops`."""

TREE = "gitops:index:Tree"
"""The type of its one resource: a folder that has exactly these files."""
