"""The subcommands of `infra`."""
