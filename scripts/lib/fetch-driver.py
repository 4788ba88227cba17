"""Fetches the driver library of NVIDIA's branch 535 from Debian 12's non-free packages, for comparing names with it.

    fetch-driver.py FOLDER

The mirror is the one that this machine's apt uses. The package's hash is checked against the index. Exits with 1 and one line if
there is no such mirror, or it cannot be reached.
"""

import hashlib
import io
import lzma
import pathlib
import subprocess
import sys
import tarfile
import urllib.request

RELEASE = "bookworm"
INDEX = f"dists/{RELEASE}/non-free/binary-amd64/Packages.xz"
BRANCH = "535."


def mirror():
    """Where apt gets Debian 12 from."""
    command = ["apt-get", "indextargets", "--format", "$(CODENAME) $(REPO_URI)", "Created-By: Packages"]
    targets = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    for line in targets.splitlines():
        codename, address = line.split(" ", 1)
        if codename == RELEASE and address.startswith("http"):
            return address.rstrip("/")
    raise OSError(f"apt knows no mirror of {RELEASE}")


def fetch(address):
    with urllib.request.urlopen(address, timeout=20) as answer:
        return answer.read()


def package(mirror):
    """Where the package is, and its SHA-256."""
    for paragraph in lzma.decompress(fetch(f"{mirror}/{INDEX}")).decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line)
        if fields.get("Package") == "libcuda1" and fields["Version"].startswith(BRANCH):
            return fields["Filename"], fields["SHA256"]
    raise OSError(f"the index has no libcuda1 of branch {BRANCH}")


def members(archive):
    """The members of an ar archive: a header of 60 bytes each, even sizes."""
    place = 8
    while place + 60 <= len(archive):
        name = archive[place : place + 16].decode().strip().rstrip("/")
        size = int(archive[place + 48 : place + 58])
        yield name, archive[place + 60 : place + 60 + size]
        place += 60 + size + size % 2


def main(folder):
    source = mirror()
    filename, expected = package(source)
    archive = fetch(f"{source}/{filename}")
    if hashlib.sha256(archive).hexdigest() != expected:
        raise OSError(f"{filename} is not what the index says")
    data = next(content for name, content in members(archive) if name.startswith("data.tar"))
    with tarfile.open(fileobj=io.BytesIO(data)) as tree:
        for entry in tree:
            path = pathlib.PurePath(entry.name)
            if entry.isfile() and path.name.startswith("libcuda.so." + BRANCH):
                folder.mkdir(parents=True, exist_ok=True)
                (folder / path.name).write_bytes(tree.extractfile(entry).read())
                return
    raise OSError(f"{filename} holds no library")


if __name__ == "__main__":
    try:
        main(pathlib.Path(sys.argv[1]))
    except OSError as error:
        sys.exit(f"{error}")
