"""Parse, build, run. Also the console script `fabric-retrieval`."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from ray_jobs.console.command_line import build_parser, complain, completion
from ray_jobs.console.interrupt import how_to_go_on, says_when_terminated, stops_on_signals
from ray_jobs.console.progress import Console
from ray_jobs.console.run_log import in_file, on_screen
from ray_jobs.console.streams import prepare_streams
from retrieval_core.config.config import Config, ConfigError, load_config
from retrieval_core.files.credentials import hide_credentials

RESUMABLE = {"run", "train", "embed", "retrieve", "evaluate", "report", "pretrain", "simulate"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns 0 done, 1 failed (one line says why), 2 wrong command line or key, 128 + a signal."""
    prepare_streams()
    options = build_parser().parse_args(arguments)
    if options.command == "completion":
        print(completion(options.shell))
        return 0
    words = list(sys.argv[1:] if arguments is None else arguments)
    with on_screen(debug=options.debug) as console, stops_on_signals(console) as told:
        try:
            config = load_config(options.config, options.overrides)
            refuse_relative_paths(config)
            code = _dispatch(options, config, console)
            sys.stdout.flush()  # while a full disk can still be told
            return code
        except ConfigError as error:
            return _fail(error, 2, options)
        except KeyboardInterrupt:
            going_on = f"; what is committed stays, and this goes on: {how_to_go_on(words)}"
            complain(f"{told.line()}{going_on if options.command in RESUMABLE else ''}")
            return told.code
        except Exception as error:  # the one place where a user's mistake turns into a line
            return _fail(error, 1, options)


def _dispatch(options: argparse.Namespace, config: Config, console: Console) -> int:
    if options.command == "check":
        from ray_jobs.check import check

        return check(config)
    if options.command == "simulate":
        from ray_jobs.simulate import simulate

        return simulate(config)
    from ray_jobs.run import Run, pinned
    from retrieval_core.run.lease import Lease

    run = Run(
        pinned(config),
        overwrite=getattr(options, "overwrite", False),
        only_rejected=getattr(options, "only_rejected", False),
        accept_removals=getattr(options, "accept_removals", False),
    )
    if options.command == "search":
        from ray_jobs.search import search

        return search(run, options.images, options.top)
    if options.command == "serve":
        from ray_jobs.serve import serve

        with says_when_terminated(console):
            return serve(run)
    if getattr(options, "dry_run", False):
        from ray_jobs.dry_run import print_plan

        return print_plan(run, options.command)
    with in_file(run.workspace, options.command, console, debug=options.debug) as options.log:
        Lease(run.workspace.work("lease.json")).refuse_second()  # the pipeline would do so only after Ray's start
        run.connect()  # before the stages are imported: Ray's start needs those seconds anyway
        from ray_jobs.pipeline import run_stage, run_workflow
        from ray_jobs.pretrain import pretrain
        from ray_jobs.run_json import write_run_json

        if options.command == "pretrain":
            pretrain(run)
            write_run_json(run)
        elif options.command == "run":
            run_workflow(run)
        else:
            run_stage(run, options.command)
    return 0


def refuse_relative_paths(config: Config) -> None:
    """Raise ConfigError for a relative path in a submitted job: it runs in Ray's own copy of the folder, lost later."""
    from pathlib import Path

    from retrieval_core.files.storage import is_url

    if "RAY_JOB_CONFIG_JSON_ENV_VAR" not in os.environ:
        return
    # Come with the code, so they are in the copy.
    included = ("Weight_Path/dinov2-motif-small", "Weight_Path/dinov2-motif-tiny")
    paths = {
        "data.root": config.data.root,
        "model.weights": config.model.weights,
        "model.checkpoint": config.model.checkpoint,
        "run.output_dir": config.run.output_dir,
    }
    for key, value in paths.items():
        if not value or is_url(value) or Path(value).is_absolute() or value.rstrip("/").endswith(included):
            continue
        raise ConfigError(
            f"{key} = {value!r}: a submitted job runs in Ray's own copy of the working directory, so this must be an "
            "absolute path on storage that every node sees, or a URL"
        )


def _fail(error: BaseException, code: int, options: argparse.Namespace) -> int:
    if options.debug:
        logging.getLogger("fabric_retrieval").exception("failed", exc_info=error)
    lines = [line for line in _message(error).splitlines() if line.strip()] or [type(error).__name__]
    for line in lines if code == 2 else lines[:1]:
        complain(hide_credentials(line))
    if code == 1 and not options.debug and not isinstance(error, ValueError | RuntimeError | OSError):
        complain(f"{getattr(options, 'log', '--debug')} shows where it happened")
    return code


def _message(error: BaseException) -> str:
    """The innermost cause, which a person can act on, without the layers of Ray."""
    seen = set()
    while id(error) not in seen:
        seen.add(id(error))
        inner = getattr(error, "cause", None) or error.__cause__
        if isinstance(inner, BaseException):
            error = inner
    text = str(error).strip()
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        text = f"{error.filename}: {error.strerror}"
    known = isinstance(error, ValueError | RuntimeError | OSError)
    return text if known and text else f"{type(error).__name__}: {text}"


if __name__ == "__main__":
    sys.exit(main())
