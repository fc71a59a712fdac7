#!/usr/bin/env python3
"""The software bill of materials of an image, SPDX 2.3 in JSON, on standard output: Debian's packages by the status
file of its dpkg, crates by Cargo.lock. The same input makes the same bytes."""

import argparse
import datetime
import hashlib
import json
import re
import tomllib


def debian(path):
    """(name, version, architecture, source) of each installed package."""
    for stanza in open(path, encoding="utf-8").read().split("\n\n"):
        fields = dict(re.findall(r"^([A-Za-z-]+): (.*)$", stanza, re.M))
        if fields.get("Status") in ("install ok installed", "install ok unpacked"):
            yield fields["Package"], fields["Version"], fields["Architecture"], fields.get("Source", fields["Package"])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--version", required=True)
    parser.add_argument("--dpkg", required=True)
    parser.add_argument("--lock", required=True)
    parser.add_argument("--epoch", required=True, type=int)
    given = parser.parse_args()
    packages = []
    relations = []

    def add(spdx, name, version, purl, supplier, checksum=None):
        package = {
            "SPDXID": spdx,
            "name": name,
            "versionInfo": version,
            "supplier": supplier,
            "downloadLocation": "NOASSERTION",
            "filesAnalyzed": False,
            "licenseConcluded": "NOASSERTION",
            "licenseDeclared": "NOASSERTION",
            "copyrightText": "NOASSERTION",
        }
        if purl:
            package["externalRefs"] = [
                {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl}
            ]
        if checksum:
            package["checksums"] = [{"algorithm": "SHA256", "checksumValue": checksum}]
        packages.append(package)

    def related(owner, kind, part):
        relations.append({"spdxElementId": owner, "relationshipType": kind, "relatedSpdxElement": part})

    def identifier(kind, name, version):
        return "SPDXRef-" + re.sub(r"[^A-Za-z0-9.-]", "-", f"{kind}-{name}-{version}")

    image = "SPDXRef-image"
    add(image, "chancery-image", given.version, None, "Organization: The Chancery developers")
    related("SPDXRef-DOCUMENT", "DESCRIBES", image)
    program = None
    for name, version, architecture, source in sorted(debian(given.dpkg)):
        spdx = identifier("deb", name, version)
        ours = name == "chancery"
        purl = f"pkg:deb/debian/{name}@{version}?arch={architecture}&distro=bookworm"
        add(spdx, name, version, None if ours else purl, "Organization: Debian" if not ours else "Organization: The Chancery developers")
        if source.split()[0] != name:
            packages[-1]["sourceInfo"] = f"built from the source package {source}"
        related(image, "CONTAINS", spdx)
        program = spdx if ours else program
    for crate in sorted(tomllib.load(open(given.lock, "rb"))["package"], key=lambda c: (c["name"], c["version"])):
        if "source" not in crate:
            continue
        spdx = identifier("crate", crate["name"], crate["version"])
        purl = f"pkg:cargo/{crate['name']}@{crate['version']}"
        add(spdx, crate["name"], crate["version"], purl, "NOASSERTION", crate.get("checksum"))
        # Cargo.lock has the crates of tests and benches too.
        related(program or image, "DEPENDS_ON", spdx)
    body = {"packages": packages, "relationships": relations}
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    created = datetime.datetime.fromtimestamp(given.epoch, datetime.timezone.utc)
    document = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": f"chancery-image-{given.version}",
        "documentNamespace": f"https://chancery.invalid/spdx/{given.version}/{digest}",
        "creationInfo": {"created": created.strftime("%Y-%m-%dT%H:%M:%SZ"), "creators": ["Tool: images/sbom.py"]},
        **body,
    }
    print(json.dumps(document, indent=1))


main()
