#!/usr/bin/env bash
# man.sh COFFER: the manual page has no fault that mandoc or groff would complain of. Exit 77: neither is here.
set -euo pipefail
page=$(mktemp)
trap 'rm -f "$page"' EXIT
"$1" man >"$page"
[ "$(wc -l <"$page")" -gt 100 ] || { echo "a manual page of $(wc -l <"$page") lines"; exit 1; }
if command -v mandoc >/dev/null; then
  complaints=$(mandoc -T lint -W warning "$page" 2>&1 || true)
elif command -v groff >/dev/null; then
  complaints=$(groff -man -ww -z -Tutf8 "$page" 2>&1)
else
  echo "skipped: neither mandoc nor groff is installed"
  exit 77
fi
[ -z "$complaints" ] || { echo "$complaints"; exit 1; }
echo "no complaints"
