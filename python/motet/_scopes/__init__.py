"""Scopes: children that end before their scope does, cancelled together, in plain, green and async code."""
