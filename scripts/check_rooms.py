#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Holds the sources to docs/architecture.md: who may include whom, where vendor headers and architecture names may appear,
and the house rules a machine can check. Prints file:line for each violation; exit code 1 when there is one.

  check_rooms.py [ROOT]       checks the tree (default: the repository of this script)
  check_rooms.py --self-test  plants one violation of every rule in a small tree and expects exactly that one
"""
import pathlib
import re
import sys
import tempfile

# Where vendor headers may be included: a pattern of the header, then path prefixes (a name that ends in .cpp is that file).
# fmt is everyone's (core hands it on); gtest belongs to tests, which are not checked for includes.
TORCH_ROOMS = ("nn", "models", "diffusion", "decoding", "training")
VENDORS = [
    (r"mpi\.h|mpi-ext\.h", ["src/comm/", "src/io/"]),
    (r"nccl\.h", ["src/comm/"]),
    (r"hdf5(_hl)?\.h|H5.*\.h|highfive/.*", ["src/io/"]),
    (r"(torch|ATen|c10|caffe2)/.*",
     [f"{tree}/{room}/" for tree in ("src", "include/muster") for room in TORCH_ROOMS] + ["src/phases/train/"]),
    (r"yaml-cpp/.*", ["src/config/"]),
    (r"CLI/.*", ["src/app/"]),
    (r"openssl/.*", ["src/core/"]),
    (r"unicode/.*|utf8proc\.h", ["src/text/"]),
    (r"zlib\.h|s?png\.h|nlohmann/.*", ["src/formats/"]),
    (r"(cuda|nvml|cublas|cudnn|nvToolsExt|driver_types|thrust/|cub/).*", ["src/device/cuda/", "src/comm/cuda/"]),
    (r"fmt/.*", ["src/", "include/muster/core/"]),
]
ENVIRONMENT = re.compile(r"\b(?:secure_getenv|getenv|setenv|putenv|unsetenv|environ)\b")
MAX_LINES = 500
SOURCE_TREES = ("src", "include", "tests", "benchmarks", "scripts", "cmake", "jobs", "configs", ".ci")
SOURCE_NAMES = re.compile(r".*\.(h|cpp|cu|cuh|py|sh|cmake|sbatch|yaml)$|CMakeLists\.txt$|^run$")
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"\n]+)[>"]', re.MULTILINE)
# Comments, raw strings, strings, characters (but not digit separators).
TOKENS = re.compile(
    r"""(?P<comment>//[^\n]*|/\*.*?\*/)|(?P<string>R"(?P<mark>[^()\\\s]{0,16})\(.*?\)(?P=mark)"|"(?:\\.|[^"\\\n])*"|(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])*')""",
    re.DOTALL)


class Checker:
    def __init__(self, root):
        self.root = pathlib.Path(root)
        self.violations = []
        self.rooms = {}      # room -> rooms it may include, besides itself
        self.read_room_table()
        self.architectures = self.read_architectures()

    def report(self, path, line, rule, message):
        relative = path.relative_to(self.root) if path.is_absolute() else path
        self.violations.append((str(relative), line, rule, message))

    def read_room_table(self):
        """The rows `| `room` | core, formats | ... |` of docs/architecture.md, in their order."""
        page = self.root / "docs/architecture.md"
        for row in re.finditer(r"^\| `(\w+)` \| ([^|]+) \|", page.read_text(encoding="utf-8"), re.MULTILINE):
            allowed = row.group(2).strip()
            if allowed == "all above":
                self.rooms[row.group(1)] = set(self.rooms)
            else:
                self.rooms[row.group(1)] = set() if allowed in ("–", "-") else set(re.split(r",\s*", allowed))
        for room, allowed in self.rooms.items():
            for unknown in sorted(allowed - set(self.rooms)):
                self.report(page, 1, "table", f"room '{room}' may include '{unknown}', which has no row")
        if not self.rooms:
            self.report(page, 1, "table", "no room table found")

    def read_architectures(self):
        """The folders of src/models that hold sources, and the model_type names in its registry's table. A folder with a public
        header of its name is a part of pipelines that other rooms are written for."""
        models = self.root / "src/models"
        public = {path.stem for path in (self.root / "include/muster/models").glob("*.h")}
        names = {path.parent.name for path in models.glob("*/*.cpp")} - public
        for path in models.glob("*registry*"):
            names |= set(re.findall(r'^\s*\{\s*"([a-z0-9_-]+)"', path.read_text(encoding="utf-8"), re.MULTILINE))
        return names

    def run(self):
        for path in self.source_files():
            text = path.read_text(encoding="utf-8", errors="replace")
            self.check_house_rules(path, text)
            if path.suffix in (".h", ".cpp", ".cu", ".cuh") and path.relative_to(self.root).parts[0] in ("src", "include"):
                self.check_code(path, text)
        self.check_cmake_rooms()
        return sorted(set(self.violations))

    def source_files(self):
        for tree in SOURCE_TREES:
            for path in sorted((self.root / tree).rglob("*")):
                parts = path.relative_to(self.root).parts
                shipped_data = "fixtures" in parts or parts[:2] == ("configs", "models")
                if path.is_file() and not shipped_data and SOURCE_NAMES.match(path.name):
                    yield path
        yield self.root / "CMakeLists.txt"

    def check_house_rules(self, path, text):
        lines = text.splitlines()
        if not any("SPDX-License-Identifier: Apache-2.0" in line for line in lines[:3]):
            self.report(path, 1, "spdx", "the first lines lack 'SPDX-License-Identifier: Apache-2.0'")
        if len(lines) > MAX_LINES:
            self.report(path, MAX_LINES + 1, "length", f"{len(lines)} lines; files stay within {MAX_LINES}")
        if path.suffix in (".h", ".cuh") and "#pragma once" not in text:
            self.report(path, 1, "pragma", "a header without #pragma once")

    def check_code(self, path, text):
        relative = path.relative_to(self.root).as_posix()
        room = self.room_of(relative)
        if room is None:
            self.report(path, 1, "room", "this folder has no row in the room table of docs/architecture.md")
            return
        def line_of(match):
            return text.count("\n", 0, match.start()) + 1

        # Blanked, not removed: positions and so line numbers stay.
        code = TOKENS.sub(lambda token: re.sub(r"[^\n]", " ", token.group()) if token.group("comment") else token.group(), text)
        bare = TOKENS.sub(lambda token: re.sub(r"[^\n]", " ", token.group()), text)
        for include in INCLUDE.finditer(code):
            self.check_include(path, relative, room, line_of(include), include.group(1) == '"', include.group(2))
        if relative != "src/core/env.cpp":
            for use in ENVIRONMENT.finditer(bare):
                self.report(path, line_of(use), "environment", f"{use.group()}: only src/core/env.cpp reads or sets the environment")
        if room != "models":
            for name in sorted(self.architectures):
                # Whole words of code and strings; all-x-base-v2 and configs/x.yaml are names of folders and files.
                for use in re.finditer(rf"(?<![\w/-]){re.escape(name)}(?![\w-]|\.\w)", code, re.IGNORECASE):
                    self.report(path, line_of(use), "architecture", f"'{use.group()}' is known to src/models alone")

    def room_of(self, relative):
        parts = relative.split("/")
        room = parts[2] if parts[:2] == ["include", "muster"] else parts[1]
        return room if room in self.rooms else None

    def check_include(self, path, relative, room, line, quoted, header):
        is_header = path.suffix in (".h", ".cuh")
        public = re.match(r"muster/(\w+)/", header)
        private = re.match(r"(\w+)/", header)
        if public:
            other = public.group(1)
            if other != room and other not in self.rooms[room]:
                self.report(path, line, "include", f"room '{room}' may not include '{other}' ({header})")
            return
        if quoted and private and private.group(1) in self.rooms:
            if private.group(1) != room:
                self.report(path, line, "private", f"{header} is private to room '{private.group(1)}'")
            elif relative.startswith("include/"):
                self.report(path, line, "private", f"a public header includes the private {header}")
            return
        if quoted and not (path.parent / header).resolve().is_relative_to((self.root / "src" / room).resolve()):
            self.report(path, line, "private", f"{header} is not in room '{room}'")
        for pattern, places in VENDORS:
            if re.fullmatch(pattern, header) and not relative.startswith(tuple(places)):
                self.report(path, line, "vendor", f"{header} belongs to {', '.join(places)}")
        if header == "torch/torch.h" and is_header:
            self.report(path, line, "torch", "no header includes torch/torch.h (narrow ATen headers instead)")
        if header == "mpi.h" and room == "io":
            self.io_mpi_files = getattr(self, "io_mpi_files", set()) | {relative}
            if is_header or len(self.io_mpi_files) > 1:
                self.report(path, line, "vendor", "one source file of io, the MPI-IO writer, may include mpi.h; no header and no second")

    def check_cmake_rooms(self):
        """What CMakeLists.txt links must be within the table, or a forbidden include would still compile."""
        path = self.root / "CMakeLists.txt"
        for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            call = re.match(r"\s*muster_room\((\w+)\s*(?:ROOMS ([\w ]+?))?\s*(?:LIBRARIES\b.*|TORCH\b.*)?\)", text)
            if not call:
                continue
            room, linked = call.group(1), (call.group(2) or "").split()
            for other in linked:
                if other in ("LIBRARIES", "TORCH"):
                    break
                if other not in self.rooms.get(room, ()):
                    self.report(path, number, "cmake", f"room '{room}' may not link '{other}'")


GOOD_TREE = {
    "docs/architecture.md": "| room | may include | libraries | job |\n|---|---|---|---|\n"
                            "| `core` | – | fmt | x |\n| `formats` | core | – | x |\n| `comm` | core | – | x |\n| `io` | core, formats, comm | – | x |\n"
                            "| `nn` | core, comm | torch | x |\n| `models` | core, formats, nn | names | x |\n| `app` | all above | main | x |\n",
    "CMakeLists.txt": "# SPDX-License-Identifier: Apache-2.0\nmuster_room(io ROOMS core comm LIBRARIES x)\nmuster_room(nn ROOMS core TORCH)\n",
    "include/muster/core/log.h": "// SPDX-License-Identifier: Apache-2.0\n#pragma once\n#include <fmt/format.h>\n",
    "include/muster/nn/linear.h": "// SPDX-License-Identifier: Apache-2.0\n#pragma once\n#include <ATen/core/Tensor.h>\n",
    "src/core/env.cpp": "// SPDX-License-Identifier: Apache-2.0\nauto x = std::getenv(name);\n",
    "src/io/hdf5.cpp": "// SPDX-License-Identifier: Apache-2.0\n#include <hdf5.h>\n#include <mpi.h>\n#include \"io/own.h\"\n"
                       "#include \"muster/comm/session.h\"\n// getenv and \"quotes\n#define K 1'000'000\nauto s = \"getenv\";\n",
    "src/models/bert/bert.cpp": "// SPDX-License-Identifier: Apache-2.0\n#include \"muster/nn/linear.h\"\n#include \"models/weights.h\"\n",
    "src/models/registry.cpp": "// SPDX-License-Identifier: Apache-2.0\nentries = {\n  {\"roberta-like\", make},\n};\n",
    "src/formats/json.cpp": "// SPDX-License-Identifier: Apache-2.0\n// #include <mpi.h>, as bert\nint BertNormalizer;\n"
                        "auto example = \"-m models/all-bert-base configs/bert.yaml\";\n",
    "src/app/main.cpp": "// SPDX-License-Identifier: Apache-2.0\n#include \"muster/models/x.h\"\n#include <CLI/CLI.hpp>\n",
}
SPDX = "// SPDX-License-Identifier: Apache-2.0\n"
# rule, file, its text (None: appended to the good text is the second), line
PLANTED = [
    ("include", "src/formats/json.cpp", SPDX + '#include "muster/comm/session.h"\n', 2),
    ("include", "include/muster/core/log.h", SPDX + '#pragma once\n\n#include "muster/io/x.h"\n', 4),
    ("private", "src/app/main.cpp", SPDX + '#include "io/own.h"\n', 2),
    ("private", "src/app/main.cpp", SPDX + '#include "../io/own.h"\n', 2),
    ("private", "include/muster/nn/linear.h", SPDX + '#pragma once\n#include "nn/secret.h"\n', 3),
    ("room", "src/extra/x.cpp", SPDX, 1),
    ("vendor", "src/formats/json.cpp", SPDX + "#  include <mpi.h>\n", 2),
    ("vendor", "src/io/second.cpp", SPDX + "#include <mpi.h>\n", 2),
    ("vendor", "src/comm/mpi.cpp", SPDX + "#include <hdf5.h>\n", 2),
    ("vendor", "include/muster/io/x.h", SPDX + "#pragma once\n#include <hdf5.h>\n", 3),
    ("vendor", "include/muster/formats/x.h", SPDX + "#pragma once\n#include <nlohmann/json.hpp>\n", 3),
    ("vendor", "src/app/main.cpp", SPDX + "#include <ATen/ATen.h>\n", 2),
    ("vendor", "src/app/main.cpp", SPDX + "#include <yaml-cpp/yaml.h>\n", 2),
    ("vendor", "src/formats/cli.cpp", SPDX + "#include <CLI/CLI.hpp>\n", 2),
    ("vendor", "src/io/sha.cpp", SPDX + "#include <openssl/evp.h>\n", 2),
    ("vendor", "src/io/u.cpp", SPDX + "#include <unicode/uchar.h>\n", 2),
    ("vendor", "src/io/z.cpp", SPDX + "#include <zlib.h>\n", 2),
    ("vendor", "src/comm/gpu.cpp", SPDX + "#include <cuda_runtime.h>\n", 2),
    ("vendor", "src/nn/n.cpp", SPDX + "#include <nccl.h>\n", 2),
    ("vendor", "include/muster/io/f.h", SPDX + "#pragma once\n#include <fmt/format.h>\n", 3),
    ("torch", "include/muster/nn/linear.h", SPDX + "#pragma once\n#include <torch/torch.h>\n", 3),
    ("environment", "src/comm/e.cpp", SPDX + "/* two\nlines */ auto x = ::getenv(name);\n", 3),
    ("environment", "src/comm/e.cpp", SPDX + "setenv(a, b, 1);\n", 2),
    ("architecture", "src/io/name.cpp", SPDX + '\nif (type == "bert") {}\n', 3),
    ("architecture", "include/muster/nn/linear.h", SPDX + "#pragma once\nstruct Bert;\n", 3),
    ("architecture", "src/io/name.cpp", SPDX + 'auto x = "roberta-like";\n', 2),
    ("spdx", "src/io/hdf5.cpp", "#include <hdf5.h>\n", 1),
    ("spdx", "tests/io/x_test.cpp", "int x;\n", 1),
    ("spdx", "scripts/x.sh", "#!/bin/sh\n", 1),
    ("length", "tests/io/long_test.cpp", SPDX + "\n" * MAX_LINES, MAX_LINES + 1),
    ("pragma", "include/muster/io/x.h", SPDX, 1),
    ("table", "docs/architecture.md", GOOD_TREE["docs/architecture.md"].replace("core, formats, comm", "core, formats, comm, nowhere"), 1),
    ("cmake", "CMakeLists.txt", "# SPDX-License-Identifier: Apache-2.0\nmuster_room(core)\nmuster_room(core ROOMS io)\n", 3),
]


def check_planted(planted):
    """The violations of the good tree with one file replaced."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in {**GOOD_TREE, **planted}.items():
            path = pathlib.Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return [violation[:3] for violation in Checker(folder).run()]


def self_test():
    failures = 0
    for rule, name, text, line in [("none", "docs/architecture.md", GOOD_TREE["docs/architecture.md"], 0)] + PLANTED:
        expected = [] if rule == "none" else [(name, line, rule)]
        found = check_planted({name: text})
        if found != expected:
            failures += 1
            print(f"self-test: {rule} in {name}: expected {expected}, found {found}")
    print(f"self-test: {len(PLANTED)} planted violations, {failures} wrong")
    return failures


def main():
    if sys.argv[1:] == ["--self-test"]:
        return 1 if self_test() else 0
    root = sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parent.parent
    violations = Checker(pathlib.Path(root).resolve()).run()
    for name, line, rule, message in violations:
        print(f"{name}:{line}: {rule}: {message}")
    print(f"{len(violations)} violations of docs/architecture.md")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
