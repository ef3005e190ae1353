#!/bin/sh
# Installs the stock Grenache libraries that `make bench` compares with. Safe to run again.
set -eu
cd "$(dirname "$0")"

# The oldest Node that the libraries' own packages still support.
NODE_MAJOR_MIN=18

for program in node npm; do
    if ! command -v "$program" >/dev/null 2>&1; then
        echo "make bench: $program is missing; install Node.js $NODE_MAJOR_MIN or later with npm (Debian: apt-get install nodejs" \
            "npm), or measure vintner alone: make bench OURS_ONLY=1" >&2
        exit 1
    fi
done
major=$(node -p 'process.versions.node.split(".")[0]')
if [ "$major" -lt "$NODE_MAJOR_MIN" ]; then
    echo "make bench: this is Node.js $(node --version); install $NODE_MAJOR_MIN or later, then run it again" >&2
    exit 1
fi

# Nothing to do when what is installed is what the lock file says.
if [ -f node_modules/.vintner-lock ] && cmp -s package-lock.json node_modules/.vintner-lock; then
    exit 0
fi
npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
cp package-lock.json node_modules/.vintner-lock
