"""Three collections from what Python itself brings along, and five searches: what `make demo` shows.

    docs   Python's language reference, a document for each topic; encoder `multilingual`
    code   the documented functions, methods and classes of the standard library; encoder `english`
    emoji  the emoji with their names in 14 languages as captions; encoder `multilingual`

Every step is a command that can be typed as it is shown. Run it again: nothing is encoded.
"""

import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import emoji
import orjson

ROOT = Path("polyseek-data")
SOURCES = ROOT / "demo-sources"
POLYSEEK = Path(sys.executable).with_name("polyseek")
# What lies in the library's folder and isn't the library: installed packages and tests.
LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}

COLLECTIONS = (
    ("docs", "docs.jsonl", "--encoder multilingual"),
    ("code", "stdlib", "--format python-documented --encoder english --passages none --prune"),
    ("emoji", "emoji.jsonl", "--encoder multilingual"),
)
UNDERLINE = re.compile(r"^([*=^~-])\1{2,}\n", re.MULTILINE)

SEARCHES = (
    ("A question in German finds passages in English", ["docs", "Wie setze ich einen Haltepunkt im Debugger?"]),
    ("A question in Japanese finds emoji", ["emoji", "火山の噴火"]),
    ("A question in English finds functions", ["code", "remove leading whitespace from every line of a text"]),
    ("A filter: only emoji since version 13", ["emoji", "an insect", "--filter", "version>=13"]),
    ("An identifier, by its words alone", ["code", "raw_decode", "--mode", "lexical"]),
)
HITS = "3"


def topic_records() -> Iterator[dict[str, Any]]:
    """The language reference: one record a topic, its headings without the lines that are drawn under them."""
    for name, source in topics.items():
        title, _, text = UNDERLINE.sub("", source).partition("\n")
        yield {"id": name, "title": title.replace('"', ""), "text": text, "language": "en", "metadata": {"topic": name}}


def emoji_records() -> Iterator[dict[str, Any]]:
    """The emoji: one record each, its names as captions."""
    emoji.config.load_language()
    for character, entry in emoji.EMOJI_DATA.items():
        if entry["status"] == emoji.STATUS["fully_qualified"]:
            captions = {language: [words(entry[language])] for language in emoji.LANGUAGES if language in entry}
            captions["en"] += [words(alias) for alias in entry.get("alias", []) if len(alias) > len(":xx:")]
            yield {"id": entry["en"].strip(":"), "title": character, "captions": captions, "version": entry["E"]}


def words(name: str) -> str:
    """`:red_heart:` -> `red heart`."""
    return name.strip(":").replace("_", " ").replace("-", " ")


def write_jsonl(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """One JSON object a line."""
    with path.open("wb") as file:
        file.writelines(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE) for record in records)


def copy_library(folder: Path) -> None:
    """The sources of the standard library, as one tree of Python files."""
    library = Path(sysconfig.get_path("stdlib"))

    def left_out(at: str, names: list[str]) -> set[str]:
        return {name for name in names if name in LEFT_OUT or not (name.endswith(".py") or Path(at, name).is_dir())}

    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(library, folder, ignore=left_out)


def polyseek(*arguments: str) -> None:
    """Run a command, shown as it would be typed. Ends the demo with its status where it fails."""
    print(f"\n$ {shlex.join(('polyseek', *arguments))}", flush=True)
    status = subprocess.run([POLYSEEK, *arguments], check=False).returncode
    if status:
        sys.exit(status)


def main() -> None:
    """Write the sources, build the collections, search them."""
    SOURCES.mkdir(parents=True, exist_ok=True)
    write_jsonl(SOURCES / "docs.jsonl", topic_records())
    write_jsonl(SOURCES / "emoji.jsonl", emoji_records())
    copy_library(SOURCES / "stdlib")
    for name, source, options in COLLECTIONS:
        polyseek("index", "build", name, str(SOURCES / source), *options.split())
    for what, arguments in SEARCHES:
        print(f"\n== {what}", flush=True)
        polyseek("search", *arguments, "-k", HITS)


if __name__ == "__main__":
    main()
