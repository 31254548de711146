"""Runs other projects' asyncio test suites, unmodified, against a chosen event loop."""
