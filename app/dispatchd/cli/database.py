"""Commands that work on the database itself, over DATABASE_URL."""

import asyncio
import os
import sys

import click

from dispatchd.adapters.postgres.migrate import SchemaMismatch, needed_version
from dispatchd.adapters.postgres.migrate import migrate as apply_migrations
from dispatchd.application.ports import DatabaseUnavailable
from dispatchd.entrypoints.settings import SettingsError, load_database_settings


@click.command()
def migrate() -> None:
    """Bring the database's schema up to date; safe to run from several places at once."""
    try:
        settings = load_database_settings(os.environ)
        applied = asyncio.run(apply_migrations(settings.database_url, primary_region=settings.primary_region))
    except (SettingsError, SchemaMismatch, DatabaseUnavailable) as exc:
        click.echo(f"dispatchd migrate: {exc}", err=True)
        sys.exit(1)
    for migration in applied:
        click.echo(f"applied {migration.version:04} {migration.name}")
    if not applied:
        click.echo(f"nothing to do: the schema has version {needed_version()}")
