"""Time to start: `import genus` and `genus --help` beside an empty Python and `import transformers`.

    python -m benchmarks.startup

Each is a fresh process, the rounds alternate, the table shows the median. Target: both of ours under 0.5 s.
"""

import statistics
import subprocess
import sys
import time

ROUNDS = 7
COMMANDS = {
    "python (empty)": ["-c", "pass"],
    "import genus": ["-c", "import genus"],
    "genus --help": ["-m", "genus", "--help"],
    "genus generate --help": ["-m", "genus", "generate", "--help"],
    "import torch": ["-c", "import torch"],
    "import transformers": ["-c", "import transformers"],
}


def seconds(arguments: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    for arguments in COMMANDS.values():  # fills the file cache
        seconds(arguments)
    times = {name: [] for name in COMMANDS}
    for _ in range(ROUNDS):
        for name, arguments in COMMANDS.items():
            times[name].append(seconds(arguments))
    print(f"{'':<22}{'median s':>10}{'least s':>10}")
    for name, values in times.items():
        print(f"{name:<22}{statistics.median(values):>10.3f}{min(values):>10.3f}")


if __name__ == "__main__":
    main()
