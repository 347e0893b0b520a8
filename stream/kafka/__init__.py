"""Reaching a broker: the embedded one, topics, logins and TLS."""
