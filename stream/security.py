"""Kafka's security settings in the words of each client."""

import ssl
from typing import Any

import faust

from stream.settings import KafkaSettings


def ssl_context(kafka: KafkaSettings) -> ssl.SSLContext | None:
    """Verifies the brokers' certificates against `kafka.ca_file`, or the system's authorities."""
    return ssl.create_default_context(cafile=kafka.ca_file or None) if kafka.security.endswith("SSL") else None


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


def faust_credentials(kafka: KafkaSettings) -> Any:
    """Faust's `broker_credentials`; None for a broker that asks for none."""
    context = ssl_context(kafka)
    if kafka.security.startswith("SASL"):
        return faust.SASLCredentials(
            username=kafka.username, password=kafka.password, mechanism=kafka.sasl_mechanism, ssl_context=context
        )
    return faust.SSLCredentials(context) if context is not None else None
