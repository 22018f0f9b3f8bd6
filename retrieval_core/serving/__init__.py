"""The search page and its JSON API, behind one ASGI application (needs the extra `serve`)."""
