"""The page people look at: one self-contained HTML file per run.

Begin with ``page.write_report``, which draws a ``data.ReportData``: ``cards`` are the queries, ``thumbnails`` their
pictures, ``chart`` the curves. ``template.html``, ``style.css`` and ``queries.js`` are the page itself; the search page
(``serving``) shares the style, ``compare.html`` and ``compare.js``. May import ``config``, ``files``, ``store``,
``images`` and ``evaluation``.
"""
