"""Inside the sandbox, in its limits: runs the program that comes on standard input, with a word to say once it has
ended. A script of its own that knows nothing of the package. Input: a JSON list of source and word.

The program lies in `main.py` and is imported as `program`, as the published harness has no `__main__` either: what an
answer does when it is run by hand (asks for input, runs its own tests, exits) is not what it is graded by.

The word is in no file and no variable of a module, and its pipe is closed before the program begins:
neither reading `main.py` nor standard input finds it. Code that walks the interpreter's frames does.
"""

import json
import os
import runpy
import sys


def main() -> None:
    """Run, then say the word, which a program that ends itself never comes to."""
    source, word = json.loads(sys.stdin.buffer.read())
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    with open("main.py", "w", encoding="utf-8", errors="replace") as file:
        file.write(source)
    sys.argv = ["main.py"]
    runpy.run_path("main.py", run_name="program")
    sys.stdout.flush()
    os.write(1, f"\n{word}\n".encode())


if __name__ == "__main__":
    main()
