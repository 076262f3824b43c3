"""A page for whoever is on call, served on this machine alone: `punctual web`."""
