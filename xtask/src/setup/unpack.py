"""Takes chosen files out of a wheel: unpack.py WHEEL DIRECTORY PATTERN=PREFIX ...

A member that matches PATTERN (as the shell would, but * also crosses "/") is written to DIRECTORY/PREFIX followed by
what stands after PATTERN's last "/" before its first wildcard. A pattern that matches nothing is an error unless "?"
stands before it, and so is a name that would leave DIRECTORY.
"""

import fnmatch
import os
import shutil
import stat
import sys
import zipfile

wheel, directory, rules = sys.argv[1], os.path.realpath(sys.argv[2]), [rule.split("=", 1) for rule in sys.argv[3:]]
missing = {pattern for pattern, _ in rules if not pattern.startswith("?")}
rules = [(pattern.lstrip("?"), prefix) for pattern, prefix in rules]
with zipfile.ZipFile(wheel) as archive:
    for member in archive.infolist():
        if member.is_dir():
            continue
        for pattern, prefix in rules:
            if not fnmatch.fnmatchcase(member.filename, pattern):
                continue
            fixed = pattern.split("*", 1)[0].rpartition("/")[0]
            name = member.filename[len(fixed) :].lstrip("/")
            if "*/lib/" in pattern:
                # Libraries of several packages go into one folder.
                name = name.rpartition("/lib/")[2]
            target = os.path.realpath(os.path.join(directory, prefix, name))
            if not target.startswith(directory + os.sep):
                sys.exit(f"{wheel}: member {member.filename!r} leaves the target directory")
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with archive.open(member) as source, open(target, "wb") as out:
                shutil.copyfileobj(source, out, 1 << 20)
            os.chmod(target, 0o755 if (member.external_attr >> 16) & stat.S_IXUSR else 0o644)
            missing.discard(pattern)
            break
if missing:
    sys.exit(f"{wheel}: nothing in it matches {', '.join(sorted(missing))}")
