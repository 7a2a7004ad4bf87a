"""`python -m analysis zoo`: every family of architectures of several packages, merged without weights."""
