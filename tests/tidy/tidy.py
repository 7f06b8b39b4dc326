#!/usr/bin/env python3
"""Looks at the tree's style and never changes it: `make tidy`. `--tap` prints one TAP line per check instead.

A check is a function from a Tree to an iterable of "path:line: what is wrong". What the compiler can see (VLAs, missing
prototypes, shadowing) is left to its warnings.
"""
import argparse
import fnmatch
import os
import re
import shutil
import subprocess
import sys

FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 800
COLUMNS_MAX = 120
CLANG_FORMAT_MAJOR = 14

BANNED_CALLS = ("strcpy strcat sprintf vsprintf strtok gets atoi atol gmtime localtime rand alloca "
                "__builtin_alloca").split()

# Protocol layers are pure machines: bytes in, events and bytes out.
PURE_FOLDERS = ("mail", "smtp", "sasl")
IMPURE_HEADERS = ("sys/socket.h", "netinet/*", "pthread.h", "unistd.h", "fcntl.h", "poll.h", "sys/epoll.h", "threads.h")

# What belongs to one machine or to the way the work is organised, never to the project. Spelled so that this file passes.
FOREIGN = [
    (r"/(?:work|farm)/|[.]library\b", "a path of somebody's machine"),
    (r"\b(?:deb|security|archive|ports|registry|snapshot)[.](?:debian|ubuntu|npmjs)[.](?:org|com)\b|\bpypi[.]org\b",
     "a package registry's host"),
    (r"\b(?:TO[D]O|FIX[M]E|X[X]X)\b", "an open end: do it, or write down what is missing and how to find out"),
    (r"(?i)\bissue [#]?[0-9]+\b|\bthis sess[i]on['s]* (?:task|brief)\b", "words about the organisation of the work"),
]


class Tree:
    """The files of a checkout, read once. `listing` overrides what is looked at (for tests of the checks)."""

    def __init__(self, root, listing=None):
        self.root = root
        self.files = sorted(listing if listing is not None else self._list())
        self._text = {}

    def _list(self):
        git = subprocess.run(["git", "-C", self.root, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                             capture_output=True, text=True)
        if git.returncode == 0:
            names = git.stdout.split("\0")
        else:
            names = [os.path.relpath(os.path.join(top, name), self.root)
                     for top, _, found in os.walk(self.root) for name in found]
        return [name for name in names if name and os.path.isfile(os.path.join(self.root, name))
                and not name.startswith(("build/", ".git/"))]

    def text(self, path):
        if path not in self._text:
            with open(os.path.join(self.root, path), encoding="utf-8", errors="replace", newline="") as file:
                self._text[path] = file.read()
        return self._text[path]

    def code(self, path):
        """The text with comments and the insides of literals blanked; line numbers stay."""
        key = path, "code"
        if key not in self._text:
            self._text[key] = blank(self.text(path))
        return self._text[key]

    def c_files(self, *tops):
        return [f for f in self.files if f.endswith((".c", ".h")) and (not tops or f.split("/")[0] in tops)]


def blank(text):
    def keep_lines(match):
        token = match.group(0)
        if token[0] in "\"'":
            return token[0] + re.sub(r"[^\n]", " ", token[1:-1]) + token[-1]
        return re.sub(r"[^\n]", " ", token)

    return re.sub(r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", keep_lines, text, flags=re.S)


def stem(path):
    return os.path.splitext(os.path.basename(path))[0]


def functions(code):
    """Yields (name, static, first line number, lines) of each function definition.

    clang-format guarantees the shape that this relies on: a definition starts at column 0, its body is a line "{" and
    ends at the next line "}".
    """
    lines = code.split("\n")
    start = None
    for number, line in enumerate(lines):
        if start is None and line == "{":
            first = number
            while first > 0 and re.match(r"[A-Za-z_]|\s+\S", lines[first - 1]) and lines[first - 1].rstrip()[-1] not in ";}\\":
                first -= 1
            signature = " ".join(lines[first:number])
            signature = re.sub(r"__attribute__\s*\(\(.*?\)\)(?!\))", "", signature)
            name = re.search(r"(\w+)\s*\(", signature)
            if name:
                start = (name.group(1), "static" in signature.split(), first, number)
        elif start is not None and line.startswith("}"):
            yield start[0], start[1], start[2] + 1, lines[start[2]:number + 1]
            start = None


def read_layers(text):
    """LAYERS as {folder: (set of folders, [header patterns])}."""
    layers = {}
    for line in text.splitlines():
        line = line.split("#")[0].strip()
        if line:
            folder, _, may = line.partition(":")
            words = may.split()
            layers[folder.strip()] = ({w for w in words if not w.startswith("<")},
                                      [w[1:-1] for w in words if w.startswith("<")])
    return layers


def check_layers(tree):
    """No folder includes what LAYERS does not grant it"""
    layers = read_layers(tree.text("LAYERS"))
    for folder, (others, _) in layers.items():
        for other in sorted(others - {"*"} - set(layers)):
            yield f"LAYERS:1: {folder} names {other}, which LAYERS does not define"
    for path in tree.c_files("src"):
        folder = path.split("/")[1]
        if folder not in layers:
            yield f"{path}:1: folder {folder} is not in LAYERS"
            continue
        for number, line in enumerate(tree.text(path).split("\n"), 1):
            match = re.match(r"\s*#\s*include\s*([<\"])([^>\"]+)[>\"]", line)
            problem = match and refused_include(layers, folder, match.group(1) == "<", match.group(2))
            if problem:
                yield f"{path}:{number}: {problem}"


def refused_include(layers, folder, system, header):
    may, own = layers[folder]
    if system:
        if folder in PURE_FOLDERS and any(fnmatch.fnmatch(header, pattern) for pattern in IMPURE_HEADERS):
            return f"{folder} is a pure layer and may not include <{header}>"
        holders = sorted(f for f, (_, patterns) in layers.items() if any(fnmatch.fnmatch(header, p) for p in patterns))
        return f"<{header}> belongs to {' and '.join(holders)}" if holders and folder not in holders else None
    top = header.split("/")[0]
    if "/" not in header:
        return f'write "{folder}/{header}", from src/ on'
    if top in (folder, "ringpost") or top in may or "*" in may:
        return None
    return f"{folder} may not include {header}"


def check_lengths(tree):
    """Functions have at most 70 lines, files at most 800"""
    for path in tree.c_files("src", "include", "tests", "bench"):
        count = tree.text(path).count("\n")
        if count > FILE_LINES_MAX:
            yield f"{path}:1: {count} lines, at most {FILE_LINES_MAX}"
        for name, _, line, lines in functions(tree.code(path)):
            if len(lines) > FUNCTION_LINES_MAX:
                yield f"{path}:{line}: {name} has {len(lines)} lines, at most {FUNCTION_LINES_MAX}"


def check_unique_names(tree):
    """A file name names one thing in src/"""
    seen = {}
    for path in tree.c_files("src"):
        place = os.path.splitext(path)[0]
        other = seen.setdefault(stem(path), place)
        if other != place:
            yield f"{path}:1: {other} has the same basename"


def check_public_names(tree):
    """A public function is named after its file, or after a type that its file's header defines"""
    for path in tree.c_files("src"):
        prefixes = {stem(path), path.split("/")[1] + "_" + stem(path), *own_types(tree, os.path.splitext(path)[0] + ".h")}
        for name, static, line, _ in functions(tree.code(path)):
            if (not static or path.endswith(".h")) and not any(name == p or name.startswith(p + "_") for p in prefixes):
                yield f"{path}:{line}: {name} starts neither with {stem(path)}_ nor with a type of its header"


def own_types(tree, header):
    if header not in tree.files:
        return []
    return re.findall(r"^(?:struct|enum|union)\s+(\w+)\s*\{", tree.code(header), flags=re.M)


def check_banned(tree):
    """Banned calls, goto backwards and macros that hide return"""
    banned = re.compile(r"(?<![\w.>])(" + "|".join(BANNED_CALLS) + r")\s*\(")
    for path in tree.c_files("src", "include", "tests", "bench"):
        code = tree.code(path)
        for number, line in enumerate(code.split("\n"), 1):
            for match in banned.finditer(line):
                yield f"{path}:{number}: {match.group(1)} is banned"
        for match in re.finditer(r"^[ \t]*#[ \t]*define\b(?:[^\n]*\\\n)*[^\n]*", code, flags=re.M):
            if re.search(r"\breturn\b", match.group(0)):
                yield f"{path}:{code.count(chr(10), 0, match.start()) + 1}: a macro hides return"
        for name, _, line, lines in functions(code):
            yield from (f"{path}:{line + offset}: goto {label} in {name} goes backwards"
                        for offset, label in backward_gotos(lines))


def backward_gotos(lines):
    labels = {}
    for offset, line in enumerate(lines):
        label = re.match(r"\s*(\w+)\s*:(?!:)", line)
        if label and label.group(1) != "default":
            labels[label.group(1)] = offset
        for jump in re.finditer(r"\bgoto\s+(\w+)", line):
            if jump.group(1) in labels:
                yield offset, jump.group(1)


def check_text(tree):
    """No tabs, no trailing blanks, no line over 120 columns, a newline at the end"""
    for path in tree.c_files("src", "include", "tests", "bench"):
        text = tree.text(path)
        if text and not text.endswith("\n"):
            yield f"{path}:{text.count(chr(10)) + 1}: no newline at the end"
        for number, line in enumerate(text.split("\n"), 1):
            if len(line) > COLUMNS_MAX:
                yield f"{path}:{number}: {len(line)} columns, at most {COLUMNS_MAX}"
            if "\t" in line or "\r" in line or line.endswith(" "):
                yield f"{path}:{number}: a tab, a carriage return or blanks at the end"


def check_reading_path(tree):
    """Every source file that docs/ARCHITECTURE.md names exists"""
    page = "docs/ARCHITECTURE.md"
    if page not in tree.files:
        yield f"{page}:1: is missing"
        return
    folders = "|".join(sorted(read_layers(tree.text("LAYERS"))))
    found = 0
    for number, line in enumerate(tree.text(page).split("\n"), 1):
        for name in re.findall(rf"`((?:{folders})/\w+)(?:\.[ch])?`", line):
            found += 1
            if f"src/{name}.c" not in tree.files and f"src/{name}.h" not in tree.files:
                yield f"{page}:{number}: there is no src/{name}.c"
    if found == 0:
        yield f"{page}:1: has no reading path"


def check_foreign(tree):
    """Nothing that belongs to one machine or to the organisation of the work"""
    patterns = [(re.compile(pattern), what) for pattern, what in FOREIGN]
    for path in tree.files:
        if path.startswith(("tests/fuzz/corpus/", "bench/results/")) or path == "LICENSE":
            continue
        for number, line in enumerate(tree.text(path).split("\n"), 1):
            for pattern, what in patterns:
                if pattern.search(line):
                    yield f"{path}:{number}: {what}"


def clang_format():
    """The reference version's program, or None: other versions format some constructs differently."""
    for name in (f"clang-format-{CLANG_FORMAT_MAJOR}", "clang-format"):
        if shutil.which(name):
            version = subprocess.run([name, "--version"], capture_output=True, text=True).stdout
            if re.search(rf"version {CLANG_FORMAT_MAJOR}\.", version):
                return name
    return None


def check_format(tree):
    """clang-format would change nothing"""
    program = clang_format()
    files = tree.c_files("src", "include", "tests", "bench")
    if program is None or not files:
        return
    style = "--style=file:" + os.path.join(tree.root, ".clang-format")
    run = subprocess.run([program, style, "--dry-run", *files], cwd=tree.root, capture_output=True, text=True)
    first = {}
    for match in re.finditer(r"^(\S+?):(\d+):\d+: warning: .*clang-format-violations", run.stderr, flags=re.M):
        first.setdefault(match.group(1), match.group(2))
    for path, line in first.items():
        yield f"{path}:{line}: `make format` would change it"
    if run.returncode != 0 and not first:
        yield f".clang-format:1: {run.stderr.strip().splitlines()[0] if run.stderr.strip() else 'clang-format failed'}"


CHECKS = [check_layers, check_lengths, check_unique_names, check_public_names, check_banned, check_text,
          check_reading_path, check_foreign, check_format]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tap", action="store_true", help="one TAP line per check")
    arguments = parser.parse_args()
    tree = Tree(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    failed = 0
    if arguments.tap:
        print(f"1..{len(CHECKS)}")
    for number, check in enumerate(CHECKS, 1):
        problems = list(check(tree))
        failed += bool(problems)
        if arguments.tap:
            print("not ok" if problems else "ok", number, "-", check.__doc__)
        for problem in problems:
            print(("# " if arguments.tap else "") + problem)
    if clang_format() is None:
        print(f"# clang-format {CLANG_FORMAT_MAJOR} is not here: the layout was not looked at", file=sys.stderr)
    if not arguments.tap:
        print(f"tidy: {len(CHECKS) - failed} of {len(CHECKS)} checks are clean, {len(tree.files)} files")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
