"""Requests and responses of the JSON API: the schemas of its OpenAPI document.

May import nothing of the service.
"""

from amber.service.models import ledger, log, people, plans, runs, slices, standing

__all__ = ["ledger", "log", "people", "plans", "runs", "slices", "standing"]
