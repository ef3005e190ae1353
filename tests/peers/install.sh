#!/bin/sh
# Installs what tests/interop, tests/grenache and tests/api run: stock Grenache programs from npm, libtorrent and cryptography from
# PyPI. Safe to run again.
set -eu
cd "$(dirname "$0")"

# The oldest Node that the peers' own packages still support.
NODE_MAJOR_MIN=18

if ! command -v node >/dev/null 2>&1 || ! command -v npm >/dev/null 2>&1; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "tests/peers: Node.js is missing; installing Debian's nodejs and npm with apt-get"
        apt-get update -q
        DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends nodejs npm
    else
        echo "tests/peers: install Node.js $NODE_MAJOR_MIN or later with npm (Debian: apt-get install nodejs npm), then run" \
            "tests/peers/install.sh again" >&2
        exit 1
    fi
fi

major=$(node -p 'process.versions.node.split(".")[0]')
if [ "$major" -lt "$NODE_MAJOR_MIN" ]; then
    echo "tests/peers: this is Node.js $(node --version); install $NODE_MAJOR_MIN or later, then run tests/peers/install.sh again" >&2
    exit 1
fi

# Nothing to do when what is installed is what the lock file says.
if ! { [ -f node_modules/.vintner-lock ] && cmp -s package-lock.json node_modules/.vintner-lock; }; then
    npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
    cp package-lock.json node_modules/.vintner-lock
fi

if [ -f .venv/vintner-requirements ] && cmp -s requirements.txt .venv/vintner-requirements; then
    exit 0
fi
if ! python3 -c 'import ensurepip, venv' >/dev/null 2>&1; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "tests/peers: Python's venv is missing; installing Debian's python3-venv with apt-get"
        apt-get update -q
        DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends python3-venv
    else
        echo "tests/peers: install Python 3 with its venv module (Debian: apt-get install python3-venv), then run" \
            "tests/peers/install.sh again" >&2
        exit 1
    fi
fi
rm -rf .venv
python3 -m venv .venv
.venv/bin/pip install -q --disable-pip-version-check --only-binary :all: -r requirements.txt
cp requirements.txt .venv/vintner-requirements
