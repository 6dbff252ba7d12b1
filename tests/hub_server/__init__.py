"""A server that speaks the Hub's protocol, as far as models are loaded and shared with it."""

from hub_server.faults import Fault
from hub_server.repositories import Commit, Repository
from hub_server.server import HubServer

__all__ = ["Commit", "Fault", "HubServer", "Repository"]
