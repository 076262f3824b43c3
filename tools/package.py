"""What CloudFormation alone can deploy: one zip with the code, and one template that takes its bucket and key.

Usage: python -m tools.package BUILD OUT [ARCHITECTURE]

BUILD is a folder that `sam build` has written, for ARCHITECTURE (by default, the template's).
"""

import copy
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

from punctual import __version__
from tools.cloudformation import ROOT, Template

_EPOCH = (1980, 1, 1, 0, 0, 0)  # Of zip: the same code gives the same bytes.


def package(build: Path, out: Path, architecture: str | None = None) -> tuple[Path, Path]:
    """Write the zip and the template to the folder `out`. Returns their paths."""
    out.mkdir(parents=True, exist_ok=True)
    code, template = out / f"punctual-{__version__}.zip", out / f"punctual-{__version__}.template.json"
    _zip(build / "Ingest", code)  # All functions have the same code.
    template.write_text(json.dumps(_packaged(code.name, architecture), default=str, separators=(",", ":")))
    return code, template


def _zip(folder: Path, to: Path) -> None:
    with zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for file in sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts):
            entry = zipfile.ZipInfo(str(file.relative_to(folder)), _EPOCH)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, file.read_bytes())


def _packaged(key: str, architecture: str | None) -> Any:
    template = copy.deepcopy(Template().text)
    parameters = template["Parameters"]
    parameters["CodeBucket"] = {"Description": f"S3 bucket in this Region that holds {key}.", "Type": "String"}
    parameters["CodeKey"] = {"Description": "Its key there.", "Type": "String", "Default": key}
    # The zip has machine code, which was built for these.
    parameters["Architecture"]["Default"] = architecture or parameters["Architecture"]["Default"]
    for name in ("Architecture", "PythonRuntime"):
        parameters[name]["AllowedValues"] = [parameters[name]["Default"]]
    template["Globals"]["Function"]["CodeUri"] = {"Bucket": {"Ref": "CodeBucket"}, "Key": {"Ref": "CodeKey"}}
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::StateMachine":
            properties = resource["Properties"]
            properties["Definition"] = json.loads((ROOT / properties.pop("DefinitionUri")).read_text())
    return template


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    for path in package(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:]):
        print(f"{path} ({path.stat().st_size:,} bytes)")
