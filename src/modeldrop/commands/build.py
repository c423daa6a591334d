"""Build into a folder, without a registry. The same recipe into the same folder builds nothing."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from modeldrop.build import pipeline
from modeldrop.commands.arguments import add_json, print_json
from modeldrop.commands.recipe_options import add_recipe_options, request_of
from modeldrop.commands.summary import variant_table, variants_json
from modeldrop.errors import DiskError, FormatError, UsageError
from modeldrop.format.manifest import Manifest, parse_manifest
from modeldrop.progress import Steps
from modeldrop.registry.provenance import provenance

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_recipe_options(parser)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="the folder to build")
    parser.add_argument("--force", action="store_true", help="build even if the folder has this recipe's build")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    output: Path = arguments.output.expanduser().absolute()
    present = _present(output)
    request = request_of(arguments)
    built = arguments.force or present is None or present.build_key != request.key or not _is_whole(output, present)
    if built or present is None:
        checked = pipeline.check(request)
        fresh = output.with_name(f".{output.name}.new-{secrets.token_hex(4)}")
        try:
            output.parent.mkdir(parents=True, exist_ok=True)
            with Steps(pipeline.STEPS, quiet=arguments.quiet) as steps:
                present = pipeline.build(checked, fresh, provenance(), steps)
            _replace(output, fresh)
        except OSError as error:
            raise DiskError(f"Could not write {output}: {error.strerror or error}.", "Name another folder.") from error
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    if arguments.json:
        print_json(
            {
                "path": str(output),
                "build_key": request.key,
                "built": built,
                "variants": variants_json(present),
            }
        )
        return 0
    print(f"{output}: {'built' if built else 'unchanged, nothing was built'}")
    if built:
        print(variant_table(present))
    return 0


def _present(output: Path) -> Manifest | None:
    """The build that the folder holds, None where it is missing or empty.

    Raises:
        UsageError: it holds something else, which must not be lost.
    """
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return None
    try:
        return parse_manifest((output / "manifest.json").read_bytes())
    except (OSError, FormatError):
        raise UsageError(
            f"{output} is there and is not a build of modeldrop.",
            "Name a folder that is empty or not there yet.",
        ) from None


def _is_whole(output: Path, manifest: Manifest) -> bool:
    paths = [output / file.path for file in manifest.files]
    return all(
        path.is_file() and path.stat().st_size == file.size for path, file in zip(paths, manifest.files, strict=True)
    )


def _replace(output: Path, fresh: Path) -> None:
    if output.exists():
        old = output.with_name(f".{output.name}.old-{secrets.token_hex(4)}")
        output.rename(old)
        fresh.rename(output)
        shutil.rmtree(old)
    else:
        fresh.rename(output)
