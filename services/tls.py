"""The services behind TLS, as they are where others share the network: with an authority that nobody else trusts.

Kafka wants a user by SASL on the same port: PLAIN knows one at once, SCRAM those that an administrator adds.
"""

import os
import shutil
import subprocess
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from services import kafka, postgresql, redis, s3
from services.errors import Missing, NotStarted
from services.program import LOOPBACK, Program

USER = "kixo"
PASSWORD = "kixo-secret"
NAME = f"subjectAltName=IP:{LOOPBACK},DNS:localhost"
PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule"
SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule"


class Certificates(Struct, frozen=True):
    """Files in PEM: the authority that signed, and the certificate of loopback with its key."""

    authority: Path
    certificate: Path
    key: Path


def make_certificates(folder: Path) -> Certificates:
    """A new authority, and a certificate that it signed. Raises `Missing` and `NotStarted`."""
    folder.mkdir(parents=True)
    found = Certificates(folder / "authority.pem", folder / "certificate.pem", folder / "key.pem")
    new = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    authority_key = folder / "authority-key.pem"
    usage = ("-addext", "keyUsage=critical,keyCertSign")
    _openssl(*new, "-subj", "/CN=Kixo tests", *usage, "-keyout", authority_key, "-out", found.authority)
    signed_by = ("-CA", found.authority, "-CAkey", authority_key)
    leaf = ("-addext", NAME, "-addext", "basicConstraints=critical,CA:FALSE")
    _openssl(*new, "-subj", "/CN=kixo", *signed_by, *leaf, "-keyout", found.key, "-out", found.certificate)
    return found


def broker(folder: Path, certificates: Certificates) -> Program:
    """A broker to which clients come by SASL over TLS alone."""
    chain = folder / "kafka.pem"
    chain.write_text(certificates.key.read_text() + certificates.certificate.read_text())
    settings = {
        "listener.security.protocol.map": "BROKER:SASL_SSL,CONTROLLER:PLAINTEXT",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(chain),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(certificates.authority),
        "listener.name.broker.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
        "sasl.mechanism.inter.broker.protocol": "PLAIN",
        "listener.name.broker.plain.sasl.jaas.config": (
            f'{PLAIN} required username="{USER}" password="{PASSWORD}" user_{USER}="{PASSWORD}";'
        ),
        "listener.name.broker.scram-sha-512.sasl.jaas.config": f"{SCRAM} required;",
    }
    return kafka.brokers(folder, settings=settings)[0]


def redis_server(folder: Path, certificates: Certificates) -> Program:
    """Redis, whose only port speaks TLS."""
    program = redis.server(folder)
    card = program.folder / "redis.conf"
    lines = [line for line in card.read_text().splitlines() if not line.startswith("port ")]
    lines += ["port 0", f"tls-port {program.port}", "tls-auth-clients no"]
    lines += [f"tls-cert-file {certificates.certificate}", f"tls-key-file {certificates.key}"]
    card.write_text("".join(f"{line}\n" for line in [*lines, f"tls-ca-cert-file {certificates.authority}"]))
    return program


def postgresql_server(folder: Path, certificates: Certificates) -> Program:
    """PostgreSQL that speaks TLS with whoever wants to."""
    program = postgresql.server(folder)
    key = Path(shutil.copy(certificates.key, program.folder / "key.pem"))
    key.chmod(0o600)
    if program.user:
        shutil.chown(key, program.user, program.user)
    settings = ("ssl=on", f"ssl_cert_file={certificates.certificate}", f"ssl_key_file={key}")
    options = [word for setting in settings for word in ("-c", setting)]
    return replace(program, command=(*program.command, *options))


def s3_server(folder: Path, certificates: Certificates) -> Program:
    """The S3 server, by https alone."""
    program = s3.server(folder)
    front, *rest = program.command
    files = ("--cert", str(certificates.certificate), "--key", str(certificates.key))
    return replace(program, command=(front, *files, *rest))


def _openssl(*arguments: str | Path) -> None:
    if shutil.which("openssl") is None:
        raise Missing("openssl is not on this machine. Install it with this system's packages.")
    done = subprocess.run(
        ["openssl", *map(str, arguments)], capture_output=True, text=True, check=False, env=dict(os.environ)
    )
    if done.returncode:
        raise NotStarted(f"No certificate could be made. {done.stderr}")
