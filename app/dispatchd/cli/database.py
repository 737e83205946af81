"""`dispatchd migrate`."""

import asyncio
import os

import click

from dispatchd.cli.failures import EXIT_CODES, database_failures


@click.command(epilog=f"Example: DATABASE_URL=postgresql://app:secret@db/dispatchd dispatchd migrate\n\n{EXIT_CODES}")
def migrate() -> None:
    """Bring the database's schema up to date.

    It is safe to run from several places at once. A read-only database is left as it is: a replica gets its schema from
    its primary.
    """
    from dispatchd.adapters.postgres import migrate as migrations
    from dispatchd.entrypoints.settings import load_database_settings

    with database_failures():
        settings = load_database_settings(os.environ)
        try:
            applied = asyncio.run(migrations.migrate(settings.database_url, primary_region=settings.primary_region))
        except migrations.ReadOnlyDatabase as exc:
            click.echo(f"nothing to do: {exc}")
            return
    for migration in applied:
        click.echo(f"applied {migration.version:04} {migration.name}")
    if not applied:
        click.echo(f"nothing to do: the schema has version {migrations.needed_version()}")
