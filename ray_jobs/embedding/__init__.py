"""The parts of the embedding stage, which ``ray_jobs/embed.py`` puts together.

In the order in which they work: ``plan_store`` decides which shards there are to do, ``actor_pool`` how many processes
decode and encode, ``graph`` lets Ray Data run ``shard_work`` (decode a shard, encode and commit it), ``actor_time``
says what was the bottleneck, ``finish_store`` checks the store and writes its manifest. May import ``console``,
``cluster``, ``ray_jobs/run.py`` and anything of ``retrieval_core``.
"""
