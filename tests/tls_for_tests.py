"""Certificates of a test, and what roles and clients make of them."""

from pathlib import Path

import grpc

from dispatchd.entrypoints.dev_certificates import DevAuthority


def server_environment(authority: DevAuthority, *, clients: bool = True) -> dict[str, str]:
    """TLS for roles, with client certificates or without. Writes the server's certificate anew."""
    certificate, key = authority.server(["localhost", "127.0.0.1"])
    found = {"TLS_ENABLED": "true", "TLS_CERT_FILE": str(certificate), "TLS_KEY_FILE": str(key)}
    if clients:
        found |= {"TLS_REQUIRE_CLIENT_CERT": "true", "TLS_CLIENT_CA_FILE": str(authority.certificate_file)}
    return found


def credentials(trusted: DevAuthority, client: tuple[Path, Path] | None = None) -> grpc.ChannelCredentials:
    """What a client needs that trusts an authority and shows a certificate, or none."""
    certificate, key = client or (None, None)
    return grpc.ssl_channel_credentials(
        trusted.certificate_file.read_bytes(),
        None if key is None else key.read_bytes(),
        None if certificate is None else certificate.read_bytes(),
    )
