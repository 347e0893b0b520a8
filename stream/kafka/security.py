"""Kafka's security settings in the words of each client."""

import socket
import ssl
from typing import Any

from state_store.errors import OperatorError
from stream.addresses import split_server
from stream.sections import KafkaSettings

_PROBE_TIMEOUT_S = 4.0


class CertificateError(OperatorError):
    """A certificate file cannot be used."""


def ssl_context(kafka: KafkaSettings) -> ssl.SSLContext | None:
    """Verifies the brokers' certificates against `kafka.ca_file`, or the system's authorities.

    Raises:
        CertificateError: a file is missing, or holds no certificate or key.
    """
    if not kafka.security.endswith("SSL"):
        return None
    try:
        context = ssl.create_default_context(cafile=kafka.ca_file or None)
        if kafka.cert_file:
            context.load_cert_chain(kafka.cert_file, kafka.key_file)
    except OSError as exc:
        files = {"kafka.ca_file": kafka.ca_file, "kafka.cert_file": kafka.cert_file, "kafka.key_file": kafka.key_file}
        named = ", ".join(f"{name} {value!r}" for name, value in files.items() if value)
        raise CertificateError(f"{named}: cannot be used ({exc}); give PEM files that exist") from exc
    return context


def tls_problem(kafka: KafkaSettings) -> str:
    """Why a broker that listens is not trusted; empty if it is, or if none listens. Clients do not say."""
    context = ssl_context(kafka)
    if context is None:
        return ""
    host, port = split_server(kafka.url.split(",")[0])
    try:
        with socket.create_connection((host, port), _PROBE_TIMEOUT_S) as plain:
            context.wrap_socket(plain, server_hostname=host).close()
    except ssl.SSLCertVerificationError as exc:
        return (
            f"its certificate is not trusted ({exc.verify_message}); set kafka.ca_file to the PEM file of the "
            "authority that signed it"
        )
    except ssl.SSLError as exc:
        return f"the TLS handshake fails ({exc.reason}); it may not speak TLS on that port, or ask for kafka.cert_file"
    except OSError:
        pass
    return ""


def client_options(kafka: KafkaSettings) -> dict[str, Any]:
    """Options of kafka-python's and aiokafka's clients, addresses included."""
    options: dict[str, Any] = {"bootstrap_servers": kafka.url.split(","), "security_protocol": kafka.security}
    context = ssl_context(kafka)
    if context is not None:
        options["ssl_context"] = context
    if kafka.security.startswith("SASL"):
        options |= {
            "sasl_mechanism": kafka.sasl_mechanism,
            "sasl_plain_username": kafka.username,
            "sasl_plain_password": kafka.password,
        }
    return options


def librdkafka_options(kafka: KafkaSettings) -> dict[str, Any]:
    """Options of librdkafka's clients, addresses included; without `kafka.ca_file` it finds the system's authorities.

    >>> librdkafka_options(KafkaSettings(url="a:1,b:2"))
    {'bootstrap.servers': 'a:1,b:2', 'security.protocol': 'PLAINTEXT'}
    """
    # librdkafka would say only that it fails: this names the file.
    ssl_context(kafka)
    options: dict[str, Any] = {"bootstrap.servers": kafka.url, "security.protocol": kafka.security}
    files = {
        "ssl.ca.location": kafka.ca_file,
        "ssl.certificate.location": kafka.cert_file,
        "ssl.key.location": kafka.key_file,
    }
    options |= {name: file for name, file in files.items() if file}
    if kafka.security.startswith("SASL"):
        options |= {
            "sasl.mechanism": kafka.sasl_mechanism,
            "sasl.username": kafka.username,
            "sasl.password": kafka.password,
        }
    return options


def faust_credentials(kafka: KafkaSettings) -> Any:
    """Faust's `broker_credentials`; None for a broker that asks for none."""
    # Only where a worker needs it: at its import Faust takes `--loop` of any command line for its own.
    import faust

    context = ssl_context(kafka)
    if kafka.security.startswith("SASL"):
        return faust.SASLCredentials(
            username=kafka.username, password=kafka.password, mechanism=kafka.sasl_mechanism, ssl_context=context
        )
    return faust.SSLCredentials(context) if context is not None else None
