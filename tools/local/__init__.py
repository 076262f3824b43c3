"""The stack on this machine: an AWS emulator without Docker, and Punctual in it by the real `sam deploy`."""

from tools.local.consumers import Arrival, Clients, Consumer
from tools.local.stack import ARCHITECTURE, HOST, LOCAL, ROOT, LocalStack, LocalStackError

__all__ = ["ARCHITECTURE", "HOST", "LOCAL", "ROOT", "Arrival", "Clients", "Consumer", "LocalStack", "LocalStackError"]
