"""Punctual on this machine: an AWS emulator without Docker, and the stack deployed to it with sam."""

from punctual.consumer import Arrival, Consumer, Deployed
from tools.local.emulator import HOST, LOCAL, ROOT, LocalStackError
from tools.local.stack import ARCHITECTURE, LocalStack

__all__ = ["ARCHITECTURE", "HOST", "LOCAL", "ROOT", "Arrival", "Consumer", "Deployed", "LocalStack", "LocalStackError"]
