"""Secrets as the operators would make them from what is rendered, with samples of the right form in them."""

import re

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from dispatchd.entrypoints.dev_certificates import DevAuthority
from infra.objects import Object, Objects

Secrets = dict[str, dict[str, str]]
"""The keys of each Secret, by its name."""

_TEMPLATED = re.compile(r"\{\{-?\s*\.(\w+)[^}]*\}\}")
_PASSWORD = "Zk3vQ9xTb7LmW2pR"


def sample_secrets(objects: Objects, authority: DevAuthority) -> Secrets:
    """The content of every Secret that an object of an environment leads to."""
    secrets: Secrets = {}
    for value in objects:
        name = value["metadata"]["name"]
        match value["kind"]:
            case "Certificate":
                certificate, key = authority.server(value["spec"]["dnsNames"])
                secrets[value["spec"]["secretName"]] = {
                    "tls.crt": certificate.read_text(),
                    "tls.key": key.read_text(),
                    "ca.crt": authority.certificate_file.read_text(),
                }
            case "Cluster":
                secrets[f"{name}-ca"] = {"ca.crt": authority.certificate_file.read_text()}
            case "ExternalSecret":
                secrets[value["spec"]["target"]["name"]] = _external(value["spec"])
    return secrets


def dev_secrets() -> Secrets:
    """What `infra dev-secret` makes."""
    return {
        "dispatchd-database": {"DATABASE_URL": f"postgresql://dispatchd:{_PASSWORD}@postgres:5432/dispatchd"},
        "dispatchd-redis": {"REDIS_PASSWORD": _PASSWORD},
    }


def _external(spec: Object) -> dict[str, str]:
    """What the template makes of what the store has."""
    fetched = {each["secretKey"]: _stored(each["remoteRef"]["property"]) for each in spec["data"]}
    template: dict[str, str] = spec["target"]["template"]["data"]
    return {key: _TEMPLATED.sub(lambda found: fetched[found[1]], text) for key, text in template.items()}


def _stored(name: str) -> str:
    """What the secret store has under this name."""
    match name:
        case "jwt_public_keys":
            public = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
            return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        case "password" | "access_key_id" | "secret_access_key":
            return _PASSWORD
    raise KeyError(f"the secret store has no {name}")
