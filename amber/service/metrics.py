"""Metrics of the service for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

__all__ = ["Metrics"]


class Metrics:
    """Counters and gauges of one app, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels, known = ["route", "method", "status"], self.registry
        self.requests = Counter("amber_requests", "Requests answered.", labels, registry=known)
        self.seconds = Histogram("amber_request_seconds", "Time to answer.", ["route"], registry=known)
        self.running = Gauge("amber_requests_running", "Requests being answered.", registry=known)
        self.waiting = Gauge("amber_requests_waiting", "Requests to the JSON API that wait to run.", registry=known)
        self.refused = Counter("amber_refused", "Requests and connections over a limit.", ["limit"], registry=known)
        self.connections = Gauge("amber_connections", "Open connections.", registry=known)
