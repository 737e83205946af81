"""The same site with the database behind a proxy, which a test can cut or make deaf."""

from urllib.parse import urlsplit

from gateway.roles import Site


def host_and_port(site: Site) -> str:
    """Where the database of a site is."""
    return urlsplit(site.environ["DATABASE_URL"]).netloc.rpartition("@")[2]


def behind(site: Site, port: int) -> Site:
    """The site of roles that reach the database through a proxy; leases are longer than its outages."""
    url = site.environ["DATABASE_URL"].replace(host_and_port(site), f"127.0.0.1:{port}")
    return Site(url, site.environ["REDIS_ADDRESS"], LEASE_DURATION="6s", WORKER_HEARTBEAT_TTL="20s")
