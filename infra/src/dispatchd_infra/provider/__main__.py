"""Serves the provider to the Pulumi engine, whose address is the first argument."""

import sys
from importlib.metadata import version

from pulumi.provider.experimental.server import main

from dispatchd_infra.provider.tree import TreeProvider

main(sys.argv[1:], version("dispatchd-infra"), TreeProvider())
