"""What the lock files in requirements/ pin."""

from modeldrop.export.environments.locks import ROOT


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / "requirements" / name).read_text("utf-8").splitlines()
    return dict(line.removesuffix(" \\").split("==") for line in lines if "==" in line)
