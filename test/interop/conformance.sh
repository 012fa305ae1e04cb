#!/bin/sh
# Runs the TUF conformance suite against sealift's client workflow (tuf-client, beside this file).
#
#   sh test/interop/conformance.sh [SUITE [PYTEST ARGUMENTS…]]
#
# SUITE: a checkout of github.com/theupdateframework/tuf-conformance; fetched with git where none is given. Needs
# Python 3.10 with venv, and faketime; what the suite wants goes into a temporary directory. Takes some minutes.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ $# -gt 0 ]; then
  suite=$1
  shift
else
  suite=$work/suite
  git clone --quiet --depth 1 https://github.com/theupdateframework/tuf-conformance "$suite"
fi
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "$suite"
# The Node the project runs on, where it is not the one of the system.
PATH=$here/../../node_modules/.bin:$PATH
export PATH
cd "$suite"
"$work/venv/bin/pytest" tuf_conformance -q -p no:cacheprovider --entrypoint "$here/tuf-client" "$@"
