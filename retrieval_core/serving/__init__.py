"""The search page and its JSON API, behind one ASGI application (needs the extra ``serve``).

Begin with ``app``: its routes are the API. ``search_index`` encodes a motif and ranks a finished store, which
``catalogue`` maps into memory and ``second_look`` ranks anew, for the command ``search``, too; ``guard`` refuses
foreign requests; ``workers`` bounds what runs and waits; ``pictures`` draws fabrics. ``page.html``, ``page.css`` and
``page.js`` are the page, after the parts it shares with ``report``. May import everything in ``retrieval_core``.
"""
