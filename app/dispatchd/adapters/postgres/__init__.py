"""Postgres, the source of truth: connections, named queries, migrations, and the stores the use cases ask for."""
