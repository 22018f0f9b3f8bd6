"""The search page and its JSON API, behind one ASGI application (needs the extra ``serve``).

Begin with ``app``: its routes are the API. ``search_index`` holds a finished store and its model in memory and ranks;
``guard`` refuses foreign requests; ``workers`` bounds what runs and waits; ``pictures`` draws fabrics. ``page.html``,
``page.css`` and ``page.js`` are the page, after the parts it shares with ``report``. May import everything in
``retrieval_core``.
"""
