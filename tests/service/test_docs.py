import re
from pathlib import Path

import service.problems
from retriever.errors import InvalidData, InvalidSettings, InvalidSnapshot, OutputError, PolyseekError, SourceError
from service.settings import Settings

DOCS = Path(__file__).parents[2] / "docs"
# Only a command line meets these.
UNREACHED = (InvalidData, SourceError, InvalidSettings, InvalidSnapshot, OutputError)
ROW = re.compile(r"^\| `(\w+)` \|([^|]*)\|(.*)\|$", re.MULTILINE)


def answerable(error: type[PolyseekError]) -> list[type[PolyseekError]]:
    """The error and all below it that a request can meet."""
    packages = ("retriever.errors", service.problems.__name__)
    below = [found for child in error.__subclasses__() for found in answerable(child)]
    return [error, *below] if error.__module__ in packages and error not in UNREACHED else below


def test_the_page_on_rest_lists_every_code_with_its_status():
    listed = {code: int(status) for code, status, _ in ROW.findall((DOCS / "rest.md").read_text())}
    assert listed == {error.code: error.status for error in answerable(PolyseekError)}


def test_the_page_on_the_service_lists_every_setting_with_its_sentence():
    listed = {name: sentence.strip() for name, _, sentence in ROW.findall((DOCS / "service.md").read_text())}
    assert listed == {name: field.description for name, field in Settings.model_fields.items()}
