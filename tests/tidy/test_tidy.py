"""Each check of tidy.py reports its kind of fault and leaves clean code alone."""
import pytest

import tidy

LAYERS = "base:\nsmtp: base\ncore: base <liburing*> <wolfssl/*>\napp: *\n"
CLEAN = "#include \"base/bytes.h\"\n\nint bytes_size(void)\n{\n    return 1;\n}\n"


@pytest.fixture
def problems(tmp_path):
    """problems(check, {path: text}) -> the check's findings on a tree of these files (and LAYERS)."""

    def run(check, files):
        files = {"LAYERS": LAYERS, **files}
        for path, text in files.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text)
        return list(check(tidy.Tree(str(tmp_path), files)))

    return run


def function(lines, name="bytes_long", static=False):
    """A function definition of exactly that many lines."""
    return f"{'static ' if static else ''}int {name}(void)\n{{\n" + "    work();\n" * (lines - 3) + "}\n"


FAULTS = [
    (tidy.check_layers, "src/base/bytes.c", '#include "core/ring.h"\n', "base may not include core/ring.h"),
    (tidy.check_layers, "src/smtp/line.c", '#include "core/ring.h"\n', "smtp may not include core/ring.h"),
    (tidy.check_layers, "src/smtp/line.c", "#include <liburing.h>\n", "belongs to core"),
    (tidy.check_layers, "src/app/cli.c", "#  include <wolfssl/ssl.h>\n", "belongs to core"),
    (tidy.check_layers, "src/smtp/line.c", "#include <sys/socket.h>\n", "pure layer"),
    (tidy.check_layers, "src/smtp/line.c", '#include "line.h"\n', "from src/ on"),
    (tidy.check_layers, "src/extra/line.c", "\n", "not in LAYERS"),
    (tidy.check_layers, "LAYERS", "base: ghost\n", "names ghost"),
    (tidy.check_lengths, "src/base/bytes.c", function(71), "bytes_long has 71 lines"),
    (tidy.check_lengths, "src/base/bytes.h", "static inline " + function(71), "bytes_long has 71 lines"),
    (tidy.check_lengths, "src/base/bytes.c", "int bytes_a(int a,\n            int b)\n" + function(71).split("\n", 1)[1],
     "bytes_a has 72 lines"),
    (tidy.check_lengths, "tests/unit/test_x.c", "\n" * 801, "801 lines"),
    (tidy.check_public_names, "src/base/bytes.c", function(5, "helper"), "helper starts neither"),
    (tidy.check_public_names, "src/base/bytes.c", function(5, "bytesize"), "bytesize starts neither"),
    (tidy.check_public_names, "src/base/bytes.h", "static inline " + function(5, "helper"), "helper starts neither"),
    (tidy.check_banned, "src/base/bytes.c", "    strcpy(a, b);\n", "strcpy is banned"),
    (tidy.check_banned, "src/base/bytes.c", "    n = atoi (text);\n", "atoi is banned"),
    (tidy.check_banned, "tests/unit/test_x.c", "    p = alloca(9);\n", "alloca is banned"),
    (tidy.check_banned, "src/base/bytes.c", "#define TRY(x) \\\n    if (x) \\\n    return x\n", "a macro hides return"),
    (tidy.check_banned, "src/base/bytes.c", "int bytes_a(void)\n{\nagain:\n    work();\n    goto again;\n}\n",
     "goto again in bytes_a goes backwards"),
    (tidy.check_text, "src/base/bytes.c", "int a; \n", "blanks"),
    (tidy.check_text, "src/base/bytes.c", "\tint a;\n", "tab"),
    (tidy.check_text, "src/base/bytes.c", "int a;", "no newline"),
    (tidy.check_text, "src/base/bytes.c", "/* " + "x" * 118 + "\n", "121 columns"),
    (tidy.check_reading_path, "docs/ARCHITECTURE.md", "`core/ring` -> `base/bytes`\n", "there is no src/core/ring.c"),
    (tidy.check_reading_path, "docs/ARCHITECTURE.md", "words\n", "no reading path"),
    (tidy.check_reading_path, "README.md", "", "is missing"),
    (tidy.check_foreign, "docs/a.md", "see /wo" + "rk/shared\n", "somebody's machine"),
    (tidy.check_foreign, "deploy/a.sh", "curl https://deb.debi" + "an.org/\n", "registry"),
    (tidy.check_foreign, "src/base/bytes.c", "/* TO" + "DO: later */\n", "open end"),
    (tidy.check_foreign, "README.md", "as in iss" + "ue 12\n", "organisation"),
]


@pytest.mark.parametrize("check, path, text, expected", FAULTS)
def test_fault_is_reported(problems, check, path, text, expected):
    found = problems(check, {path: text})
    assert any(expected in line and line.startswith(path if path != "README.md" or check == tidy.check_foreign else "")
               for line in found), found


CLEAN_CODE = [
    (tidy.check_layers, "src/smtp/line.c", '#include "base/bytes.h"\n#include "smtp/line.h"\n#include <string.h>\n'),
    (tidy.check_layers, "src/core/ring.c", "#include <liburing.h>\n#include <sys/socket.h>\n"),
    (tidy.check_layers, "src/app/main.c", '#include "smtp/line.h"\n#include "ringpost/version.h"\n'),
    (tidy.check_layers, "tests/unit/test_ring.c", "#include <liburing.h>\n"),
    (tidy.check_lengths, "src/base/bytes.c", function(70) + "\n" + function(70, "bytes_b")),
    (tidy.check_lengths, "src/base/bytes.c", "\n" * 800),
    (tidy.check_public_names, "src/base/bytes.c", CLEAN + function(5, "helper", static=True)),
    (tidy.check_public_names, "src/smtp/server.c", function(5, "smtp_server_init")),
    (tidy.check_public_names, "src/app/main.c", function(5, "main")),
    (tidy.check_banned, "src/base/bytes.c", "/* not strcpy( */ char *s = \"strcpy(\"; my_strcpy(a); x.rand(1);\n"),
    (tidy.check_banned, "src/base/bytes.c",
     "int bytes_a(int x)\n{\n    switch (x) {\n    default: goto out;\n    }\nout:\n    return 1;\n}\n"),
    (tidy.check_text, "src/base/bytes.c", "/* " + "x" * 117 + "\n"),
    (tidy.check_reading_path, "docs/ARCHITECTURE.md", "`LAYERS`, `smtp`, `deploy/deps`\n`base/bytes` -> `base/bytes.c`\n"),
    (tidy.check_foreign, "README.md", "make install; framework/library\n"),
]


@pytest.mark.parametrize("check, path, text", CLEAN_CODE)
def test_clean_code_passes(problems, check, path, text):
    assert problems(check, {"src/base/bytes.c": CLEAN, path: text}) == []


def test_type_of_the_header_may_name_a_function(problems):
    header = "struct buffer {\n    int size;\n};\n"
    source = function(5, "buffer_size")
    assert problems(tidy.check_public_names, {"src/base/bytes.h": header, "src/base/bytes.c": source}) == []
    assert problems(tidy.check_public_names, {"src/base/other.c": source}) != []


def test_same_basename_in_two_folders_is_reported(problems):
    files = {"src/base/line.h": "", "src/base/line.c": "", "src/smtp/line.c": ""}
    found = problems(tidy.check_unique_names, files)
    assert len(found) == 1 and "same basename" in found[0]


def test_layout_is_reported(problems):
    if tidy.clang_format() is None:
        pytest.skip("clang-format of the reference version is not installed")
    config = {".clang-format": "BasedOnStyle: LLVM\n"}
    assert problems(tidy.check_format, {"src/base/bytes.c": "int  bytes_a ;\n", **config}) != []
    assert problems(tidy.check_format, {"src/base/bytes.c": "int bytes_a;\n", **config}) == []


def test_functions_are_found_with_their_linkage():
    code = tidy.blank("/* {\n} */\nstatic const char *\nlong_type(int a)\n{\n}\n\nvoid open(void) __attribute__((cold));\n"
                      "struct x {\n    int a;\n};\n\nint two(int (*call)(void), int b)\n{\n    if (b) {\n    }\n}\n")
    found = [(name, static, len(lines)) for name, static, _, lines in tidy.functions(code)]
    assert found == [("long_type", True, 4), ("two", False, 5)]
