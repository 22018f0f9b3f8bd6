"""What runs where: one file per stage or command. The only package that imports Ray.

Begin with ``pipeline``, the whole workflow on one screen. ``__main__`` turns a command line into a call, ``run`` is
what every stage is handed. ``cluster`` talks to Ray, ``console`` to people; ``embedding`` has the parts of ``embed``.
"""
