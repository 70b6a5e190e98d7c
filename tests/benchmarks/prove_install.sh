#!/usr/bin/env bash
# Builds the wheel, installs it bare into a fresh environment of every Python that is named, beside
# the packages in BESIDE ("torch transformers datasets"), and trains, exports and extracts there.
#   bash tests/benchmarks/prove_install.sh python3.10 python3.13
set -euo pipefail
cd "$(dirname "$0")/../.."
clone=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
git archive HEAD | tar x -C "$work" --one-top-level=source
for python in "$@"; do
  "$python" -m venv "$work/env"
  pip="$work/env/bin/python -m pip --disable-pip-version-check"
  test -e "$work"/*.whl || $pip wheel --quiet --no-deps --wheel-dir "$work" "$work/source"
  $pip install --quiet "$work"/*.whl
  echo "$("$python" --version): $($pip list --format=freeze | wc -l) packages, $(du -sm "$work/env" | cut -f1) MB"
  if test -n "${BESIDE:-}"; then
    $pip install --quiet $BESIDE
    $pip check || true
  fi
  mkdir "$work/use"
  (cd "$work/use" && PYTHONPATH= "$work/env/bin/python" "$clone/tests/benchmarks/installed_use.py")
  rm -rf "$work/env" "$work/use"
done
