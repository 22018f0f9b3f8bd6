"""The command line: commands, their options, help with examples, and completion in a shell."""

from __future__ import annotations

import argparse
import difflib
import json
import re
import shutil
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple, NoReturn

from ray_jobs.console.progress import coloured
from retrieval_core.config.config import Config, valid_keys
from retrieval_core.files.credentials import hide_credentials

PROGRAM = "fabric-retrieval"
DEMO = "--config ray_jobs/configs/demo.yaml"
SHELLS = ("bash", "zsh")


class Command(NamedTuple):
    """What a command does, with examples and the configuration keys that matter most to it."""

    text: str
    examples: tuple[str, ...]
    keys: tuple[str, ...] = ()
    flags: frozenset[str] = frozenset()  # which of FLAGS it has


REDO = frozenset({"--overwrite"})
STAGE = REDO | {"--dry-run"}
COMMANDS = {
    "run": Command(
        "the whole workflow; finished stages are skipped, interrupted ones go on",
        (
            f"{DEMO}",
            f"{DEMO} --dry-run",
            "--config ray_jobs/configs/fabrics17k.yaml --set data.root=/data/fabrics --set run.name=trial",
            "--set run.name=mine --set data.format=folder --set data.gallery=fabrics --set data.queries=motifs",
        ),
        ("run.name", "run.output_dir", "data.root", "data.format", "model.weights", "train.enabled", "retrieve.top_k"),
        STAGE | {"--only-rejected", "--accept-removals"},
    ),
    "train": Command(
        "fine-tune the model",
        (f"{DEMO}", f"{DEMO} --set run.name=few-steps --set train.max_steps=20"),
        ("train.epochs", "train.max_steps", "train.batch_size", "train.learning_rate", "train.trainable_blocks"),
        STAGE,
    ),
    "embed": Command(
        "embed the gallery and the queries",
        (f"{DEMO}", f"{DEMO} --only-rejected"),
        ("embed.batch_size", "embed.shard_size", "embed.num_actors", "embed.regions", "embed.vectors"),
        STAGE | {"--only-rejected", "--accept-removals"},
    ),
    "retrieve": Command(
        "rank the gallery for every query and write the candidate pool",
        (f"{DEMO}", f"{DEMO} --set retrieve.top_k=200"),
        ("retrieve.top_k", "retrieve.query_block", "retrieve.gallery_block"),
        STAGE,
    ),
    "evaluate": Command(
        "compute the metrics of the pool and of the baselines",
        (f"{DEMO}", f"{DEMO} --set 'evaluate.ks=[1,10,100]'"),
        ("evaluate.ks", "evaluate.baselines", "evaluate.bootstrap", "evaluate.trec"),
        STAGE,
    ),
    "report": Command(
        "write the page with the figures and pictures",
        (f"{DEMO}", f"{DEMO} --set report.queries=50"),
        ("report.queries", "report.candidates", "report.thumbnail"),
        STAGE,
    ),
    "check": Command(
        "validate configuration, data set and weights; computes nothing",
        (f"{DEMO}", "--config ray_jobs/configs/fabrics17k.yaml --set data.root=/data/fabrics"),
        ("data.root", "data.format", "data.queries", "data.gallery", "model.weights", "model.image_size"),
    ),
    "search": Command(
        "rank an existing embedding store for new query images",
        (f"{DEMO} motif.png", f"{DEMO} motif.png rose.jpg --top 50"),
        ("run.name", "run.output_dir"),
    ),
    "serve": Command(
        "start the search page on this machine: drop a motif, see the fabrics",
        (f"{DEMO}", f"{DEMO} --set serve.port=9000"),
        ("serve.host", "serve.port", "serve.top", "serve.max_upload_mb"),
    ),
    "simulate": Command(
        "draw a simulated printed-fabric data set in the published layout",
        ("--set data.root=Output/my-fabrics", "--set data.root=Output/large --set simulate.test_fabrics=5000"),
        ("data.root", "run.seed", "simulate.test_fabrics", "simulate.test_motifs", "simulate.fabric_size"),
    ),
    "pretrain": Command(
        "teach a network of DINOv2's shape to tell simulated motifs apart, as a start of one's own",
        ("--config ray_jobs/configs/pretrain.yaml",),
        ("model.weights", "train.epochs", "train.batch_size", "simulate.train_motifs"),
        REDO,
    ),
    "completion": Command(
        "print a script that completes commands, options and keys in bash or zsh", tuple(f"{shell}" for shell in SHELLS)
    ),
}
FIRST_STEPS = (
    ("simulate --set data.root=Output/my-fabrics", "draw a small catalogue to try things on"),
    (f"check {DEMO}", "look for problems before computing"),
    (f"run {DEMO} --dry-run", "what would be done: counts, time, disk"),
    (f"run {DEMO}", "the whole workflow; done stages are skipped"),
    (f"search {DEMO} motif.png", "the fabrics most like a picture"),
    (f"serve {DEMO}", "the same in a browser: http://127.0.0.1:8000/"),
)
FLAGS = {
    "--overwrite": "redo what is finished (default: it is skipped)",
    "--dry-run": "print the plan with counts, time and disk, and stop (default: do it)",
    "--only-rejected": "try rejected images again (default: they stay rejected until their file changes)",
    "--accept-removals": "believe that most of the gallery is gone (default: embed.max_removed says when to refuse)",
}
EXITS = (
    "exit codes: 0 done; 1 it failed, and a line says why; 2 wrong command line or key; 130 stopped by Ctrl-C, "
    "143 by SIGTERM, 129 by SIGHUP"
)


class Parser(argparse.ArgumentParser):
    """A parser whose errors name the nearest valid word."""

    def error(self, message: str) -> NoReturn:
        # An unknown option of a command is reported by the parser of the commands, which has none of them.
        known = [*COMMANDS, *_options(self)]
        wrong = re.search(r"(?:unrecognized arguments: |invalid choice: ')([^\s']+)", message)
        close = difflib.get_close_matches(wrong[1], known, n=1, cutoff=0.4) if wrong else []
        hint = f"; did you mean {close[0]}?" if close else ""
        complain(f"{hide_credentials(message)}{hint} (see {self.prog} --help)")
        raise SystemExit(2)


class Help(argparse.RawDescriptionHelpFormatter):
    """Uses the width of terminals wider than 80 columns."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=20, width=min(120, shutil.get_terminal_size().columns - 2))


def complain(line: str) -> None:
    """Print a line on stderr that starts with the program's name, in red where there are colours."""
    print(f"{coloured(f'{PROGRAM}:', 'red', sys.stderr)} {line}", file=sys.stderr)


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        yield from action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _options(command)


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = Parser(
        prog=PROGRAM,
        description=_first_steps(),
        epilog=f"{PROGRAM} COMMAND --help shows examples of a command and its keys with their defaults.\n{EXITS}",
        formatter_class=Help,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)
    for name, about in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=about.text,
            description=_about(name, about),
            epilog=EXITS,
            formatter_class=Help,
            allow_abbrev=False,
        )
        if name == "completion":
            command.add_argument("shell", choices=SHELLS, help="whose script")
            continue
        _add_common(command)
        for flag in filter(about.flags.__contains__, FLAGS):
            command.add_argument(flag, action="store_true", help=FLAGS[flag])
        if name == "search":
            command.add_argument("images", nargs="+", metavar="IMAGE", help="query images").complete = FILE  # type: ignore[attr-defined]
            command.add_argument("--top", type=int, default=20, metavar="K", help="fabrics to show (default: 20)")
    return parser


def _add_common(command: argparse.ArgumentParser) -> None:
    config = command.add_argument(
        "--config", metavar="FILE", help="YAML file (default: none; a key that nobody sets has its own default)"
    )
    override = command.add_argument(
        "--set",
        metavar="a.b=c",
        action="append",
        default=[],
        dest="overrides",
        help="set a key of the configuration; repeatable, the last one wins, before the file",
    )
    command.add_argument("--debug", action="store_true", help="show tracebacks and library messages (default: no)")
    config.complete = FILE  # type: ignore[attr-defined]
    override.complete = dict.fromkeys(SHELLS, "_fabric_retrieval_keys")  # type: ignore[attr-defined]


def _first_steps() -> str:
    width = max(len(words) for words, _ in FIRST_STEPS)
    lines = [f"  {PROGRAM} {words:{width}}  {why}" for words, why in FIRST_STEPS]
    about = "Find the printed fabrics of a catalogue that hold a motif: fine-tune DINOv2, embed, rank."
    return "\n".join(["examples:", *lines, "", about])


def _about(name: str, command: Command) -> str:
    lines = ["examples:", *(f"  {PROGRAM} {name} {words}" for words in command.examples)]
    if name == "completion":
        lines += [
            "",
            f'  eval "$({PROGRAM} completion bash)"                 in ~/.bashrc',
            f"  {PROGRAM} completion zsh > ~/.zfunc/_{PROGRAM}   with fpath+=~/.zfunc before compinit in ~/.zshrc",
        ]
    lines += ["", f"{command.text[0].upper()}{command.text[1:]}."]
    if command.keys:
        width = max(map(len, command.keys))
        lines += ["", "keys, set with --set KEY=VALUE (docs/configuration.md has all):"]
        for key in command.keys:
            default, sentence = _key(key)
            lines.append(f"  {key:{width}}  {sentence} (default: {default})")
    return "\n".join(lines)


def _key(key: str) -> tuple[str, str]:
    """Default and sentence of a key, as the configuration has them."""
    section, _, name = key.partition(".")
    model = Config.model_fields[section].annotation
    assert model is not None
    field = model.model_fields[name]
    return json.dumps(field.default).strip('"') or "none", str(field.description).rstrip(".")


FILE = {"bash": "_shtab_compgen_files", "zsh": "_files", "tcsh": "f"}  # shtab.FILE, without loading shtab
BASH_KEYS = """
_fabric_retrieval_keys() {
  compgen -W "%s" -- "$1"
}
"""
BASH_NO_SPACE = """
_fabric_retrieval() {
  _shtab_fabric_retrieval "$@"
  [[ ${COMPREPLY[0]} != *= ]] || compopt -o nospace 2>/dev/null
}
complete -o bashdefault -F _fabric_retrieval fabric-retrieval
"""
ZSH_KEYS = """
_fabric_retrieval_keys() {
  local -a keys
  keys=(%s)
  compadd -S '' -a keys
}
"""


def completion(shell: str) -> str:
    """The script that completes this command line in a shell, configuration keys after ``--set`` included."""
    import shtab

    keys = " ".join(f"{key}=" for key in valid_keys())
    preamble: Any = {"bash": BASH_KEYS % keys, "zsh": ZSH_KEYS % keys}
    script = shtab.complete(build_parser(), shell=shell, root_prefix="fabric_retrieval", preamble=preamble)
    return f"{script}{BASH_NO_SPACE}" if shell == "bash" else str(script)
