"""The command line: parse, build, run. Also the console script `fabric-retrieval`."""

from __future__ import annotations

import argparse
import difflib
import logging
import os
import re
import sys
from collections.abc import Iterator, Sequence
from typing import NoReturn

from retrieval_core.config import Config, ConfigError, load_config
from retrieval_core.credentials import hide_credentials

EXAMPLES = """examples:
  fabric-retrieval simulate --set data.root=Output/my-fabrics            draw a small catalogue to try things on
  fabric-retrieval check    --config ray_jobs/configs/demo.yaml          look for problems before computing
  fabric-retrieval run      --config ray_jobs/configs/demo.yaml          the whole workflow; done stages are skipped
  fabric-retrieval run      --config ray_jobs/configs/fabrics17k.yaml --set data.root=/data/fabrics --set run.name=trial
  fabric-retrieval search   --config ray_jobs/configs/demo.yaml motif.png --top 20
  fabric-retrieval serve    --config ray_jobs/configs/demo.yaml          the same in a browser: http://127.0.0.1:8000/
"""

COMMANDS = {
    "run": "the whole workflow; finished stages are skipped, interrupted ones go on",
    "train": "fine-tune the model",
    "embed": "embed the gallery and the queries",
    "retrieve": "rank the gallery for every query and write the candidate pool",
    "evaluate": "compute the metrics of the pool and of the baselines",
    "report": "write the page with the figures and pictures",
    "check": "validate configuration, data set and weights; computes nothing",
    "search": "rank an existing embedding store for new query images",
    "serve": "start the search page on this machine: drop a motif, see the fabrics",
    "simulate": "draw a simulated printed-fabric data set in the published layout",
    "pretrain": "teach a network of DINOv2's shape to tell simulated motifs apart, as a start of one's own",
}


class Parser(argparse.ArgumentParser):
    """A parser whose complaints name the nearest valid word."""

    def error(self, message: str) -> NoReturn:
        # An unknown option of a command is reported by the parser of the commands, which has none of them.
        known = [*COMMANDS, *_options(self)]
        wrong = re.search(r"(?:unrecognized arguments: |invalid choice: ')([^\s']+)", message)
        close = difflib.get_close_matches(wrong[1], known, n=1, cutoff=0.4) if wrong else []
        hint = f"; did you mean {close[0]}?" if close else ""
        print(f"fabric-retrieval: {hide_credentials(message)}{hint} (see fabric-retrieval --help)", file=sys.stderr)
        raise SystemExit(2)


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Options of a parser and of its commands."""
    for action in parser._actions:
        yield from action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _options(command)


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = Parser(
        prog="fabric-retrieval",
        description="Find the printed fabrics of a catalogue that hold a motif: fine-tune DINOv2, embed, rank.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text.capitalize() + ".", allow_abbrev=False)
        command.add_argument("--config", metavar="FILE", help="YAML file; defaults are used for what it leaves out")
        command.add_argument(
            "--set", metavar="a.b=c", action="append", default=[], dest="overrides", help="override a key; repeatable"
        )
        command.add_argument("--debug", action="store_true", help="show tracebacks and library messages")
        if name not in {"check", "search", "serve", "simulate"}:
            command.add_argument("--overwrite", action="store_true", help="redo what is finished")
        if name not in {"check", "search", "serve", "simulate", "pretrain"}:
            command.add_argument("--dry-run", action="store_true", help="print the plan and stop")
        if name in {"run", "embed"}:
            command.add_argument("--only-rejected", action="store_true", help="try rejected images again")
        if name == "search":
            command.add_argument("images", nargs="+", metavar="IMAGE", help="query images")
            command.add_argument("--top", type=int, default=20, metavar="K", help="fabrics to show (default 20)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        0 done; 1 the run failed, with one line that says what and what to do; 2 the command line or the configuration
        is wrong.
    """
    options = build_parser().parse_args(arguments)
    _set_up_logging(debug=options.debug)
    try:
        config = load_config(options.config, options.overrides)
        refuse_relative_paths(config)
        return _dispatch(options, config)
    except ConfigError as error:
        return _fail(error, 2, debug=options.debug)
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from what is committed", file=sys.stderr)
        return 130
    except Exception as error:  # the one place where a user's mistake turns into a line
        return _fail(error, 1, debug=options.debug)


def _dispatch(options: argparse.Namespace, config: Config) -> int:
    if options.command == "simulate":
        from ray_jobs.simulate import simulate

        return simulate(config)
    if options.command == "check":
        from ray_jobs.check import check

        return check(config)
    from ray_jobs.run import Run

    run = Run(
        config,
        overwrite=getattr(options, "overwrite", False),
        only_rejected=getattr(options, "only_rejected", False),
    )
    if options.command == "search":
        from ray_jobs.search import search

        return search(run, options.images, options.top)
    if options.command == "serve":
        from ray_jobs.serve import serve

        return serve(run)
    if getattr(options, "dry_run", False):
        from ray_jobs.check import print_plan

        return print_plan(run, options.command)
    from ray_jobs.pipeline import run_stage, run_workflow, write_run_json

    if options.command == "pretrain":
        from ray_jobs.pretrain import pretrain

        pretrain(run)
        write_run_json(run)
    elif options.command == "run":
        run_workflow(run)
    else:
        run_stage(run, options.command)
    return 0


def refuse_relative_paths(config: Config) -> None:
    """In a submitted job the working directory is Ray's own copy: what is written there is lost.

    Raises:
        ConfigError: naming the key, unless the path is absolute, a URL, or the small model that travels with the code.
    """
    from pathlib import Path

    from retrieval_core.storage import is_url

    if "RAY_JOB_CONFIG_JSON_ENV_VAR" not in os.environ:
        return
    travels = "Weight_Path/dinov2-motif-tiny"
    paths = {
        "data.root": config.data.root,
        "model.weights": config.model.weights,
        "model.checkpoint": config.model.checkpoint,
        "run.output_dir": config.run.output_dir,
    }
    for key, value in paths.items():
        if not value or is_url(value) or Path(value).is_absolute() or value.rstrip("/").endswith(travels):
            continue
        raise ConfigError(
            f"{key} = {value!r}: a submitted job runs in Ray's own copy of the working directory, so this must be an "
            "absolute path on storage that every node sees, or a URL"
        )


def _set_up_logging(*, debug: bool) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    log = logging.getLogger("fabric_retrieval")
    log.handlers[:] = [handler]
    log.propagate = False
    log.setLevel(logging.INFO)
    logging.getLogger().setLevel(logging.INFO if debug else logging.ERROR)


def _fail(error: BaseException, code: int, *, debug: bool) -> int:
    if debug:
        logging.getLogger("fabric_retrieval").exception("failed", exc_info=error)
    lines = [line for line in _message(error).splitlines() if line.strip()] or [type(error).__name__]
    for line in lines if code == 2 else lines[:1]:
        print(f"fabric-retrieval: {hide_credentials(line)}", file=sys.stderr)
    if code == 1 and not debug and not isinstance(error, ValueError | RuntimeError | OSError):
        print("fabric-retrieval: --debug shows where it happened", file=sys.stderr)
    return code


def _message(error: BaseException) -> str:
    """What went wrong, without the layers of the engine: the innermost cause that a person can act on."""
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
