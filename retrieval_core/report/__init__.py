"""The page people look at: one self-contained HTML file per run.

Begin with ``page.write_report``, which draws a ``data.ReportData``: ``cards`` are the queries, ``thumbnails`` their
pictures, ``explain`` says why a query missed something, ``chart`` draws the curves. ``template.html`` is the page,
``queries.html`` and ``queries.js`` its pictures; the search page (``serving``) shares ``style.css``, ``compare.html``
and ``compare.js``. May import ``config``, ``files``, ``store``, ``images`` and ``evaluation``.
"""
