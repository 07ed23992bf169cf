"""The `genus` command: finds the verb, lets tyro fill its options, runs it, and turns a user's mistake into one line.

Nothing heavy is imported here, so that `genus --help` answers at once; each verb is a module of this package with a
frozen dataclass `Options` (its docstring is the help) and `main(options) -> int`. A verb may have two words: `plan fit` is the
module `plan_fit`, and `genus plan ./fit` means a folder of that name.
"""

import difflib
import keyword
import os
import sys
from importlib import import_module
from pkgutil import iter_modules

from genus import __version__

VERBS = {
    "recipes": "the family tree: every system, its specification, and how two of them differ",
    "prepare": "turn files of text into token shards with a manifest",
    "tokenizer train": "a tokenizer from texts, shared by several data sets",
    "tokenizer show": "what a tokenizer is, and how it cuts a text",
    "tokenizer compare": "tokenizers on the same text: bytes, characters and words per token, by language and source",
    "train": "train a recipe on prepared data, or continue a run or a Hugging Face model",
    "tune": "make a trained model do a task, from labelled rows",
    "predict": "label the rows of a file with a tuned model",
    "evaluate": "bits per byte and perplexity, beside what counting and xz reach",
    "explain": "which words a model looks at, head by head, and what fast weights write",
    "generate": "continue a prompt with a trained model",
    "chat": "talk with a model that was tuned on conversations",
    "serve": "OpenAI's interface and a web page for trained models",
    "export": "write a run as a folder that transformers opens",
    "import": "read a Hugging Face folder into a run",
    "report": "one HTML page for a run, a comparison of runs, or prepared data",
    "plan": "which model to train on this data with this budget: measured, and predicted before the run",
    "plan fit": "scaling laws of a table of runs, anyone's",
    "plan verify": "what a plan predicted of a run against what the run reached",
    "doctor": "this machine: its speed, the path of every operation, what is missing and the command that adds it",
    "demo": "a real corpus, five models of five generations, one table, one report",
}

ERROR = 2
INTERRUPTED = 130
BROKEN_PIPE = 141


def module_name(verb: str) -> str:
    """The module of this package that holds a verb: its name, with an underscore after a Python keyword and between two words."""
    return verb + "_" if keyword.iskeyword(verb) else verb.replace(" ", "_")


def verbs() -> dict[str, str]:
    """The verbs whose module is there, in the order in which a newcomer meets them."""
    present = {module.name for module in iter_modules(__path__)}
    return {verb: line for verb, line in VERBS.items() if module_name(verb) in present}


def usage() -> str:
    width = max(map(len, verbs()))
    lines = [f"  {verb:<{width}}  {line}" for verb, line in verbs().items()]
    return "\n".join(
        [
            f"genus {__version__}: from a folder of text to a trained, measured, exported model.",
            "",
            "usage: genus VERB ...        genus VERB --help explains its options",
            "",
            *lines,
        ]
    )


def split(arguments: list[str]) -> tuple[str, list[str]]:
    """The verb that the arguments begin with, of two words where there is such a one, and what follows it."""
    words = 2 if " ".join(arguments[:2]) in verbs() else 1
    return " ".join(arguments[:words]), arguments[words:]


def run(verb: str, rest: list[str]) -> int:
    """Import the verb, parse its options and run it. Returns the exit status."""
    if verb not in verbs():
        nearest = difflib.get_close_matches(verb, verbs(), n=1, cutoff=0.5)
        hint = f"did you mean `genus {nearest[0]}`?" if nearest else "`genus --help` lists the verbs"
        longer = [each for each in verbs() if each.startswith(f"{verb} ")]
        hint = f"write {', '.join(f'`genus {each}`' for each in longer)}" if longer else hint
        raise ValueError(f"there is no verb {verb!r}; {hint}")
    module = import_module(f"genus.cli.{module_name(verb)}")
    import tyro

    return module.main(tyro.cli(module.Options, prog=f"genus {verb}", args=rest)) or 0


def in_one_line(error: Exception) -> str:
    """One line for the user. An OSError's own text starts with a number; the path and the reason are what helps."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__


def main(arguments: list[str] | None = None) -> int:
    """Run one command line (default: the process's own). GENUS_DEBUG=1 lets errors through with their traceback."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        if not arguments or arguments[0] in ("-h", "--help", "help"):
            print(usage())
            status = 0
        elif arguments[0] in ("-V", "--version"):
            print(f"genus {__version__}")
            status = 0
        else:
            status = run(*split(arguments))
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # The reader (`| head`) has gone. Python flushes once more at exit, which must not fail either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except KeyboardInterrupt:
        if os.environ.get("GENUS_DEBUG"):
            raise
        print("\nstopped", file=sys.stderr)
        return INTERRUPTED
    except (ValueError, OSError, ModuleNotFoundError) as error:
        # A missing module of our own is a fault of ours; a missing optional package is the user's to install.
        ours = isinstance(error, ModuleNotFoundError) and (error.name or "").startswith("genus")
        if ours or os.environ.get("GENUS_DEBUG"):
            raise
        print(f"error: {in_one_line(error)}", file=sys.stderr)
        return ERROR
