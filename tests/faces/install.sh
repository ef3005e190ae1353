#!/bin/sh
# Installs what tests/faces drives the Postman collection and Swagger UI with: newman and playwright-core from npm, and a Chromium.
# Quiet and quick when all of it is there. Safe to run again.
set -eu
cd "$(dirname "$0")"

# The oldest Node that these packages still support.
NODE_MAJOR_MIN=18

fail() {
    echo "tests/faces: $1, then run tests/faces/install.sh again" >&2
    exit 1
}

# Installs Debian packages where that is possible without asking anybody.
apt_install() {
    command -v apt-get >/dev/null 2>&1 || return 1
    if [ "$(id -u)" = 0 ]; then
        as_root=
    elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
        as_root=sudo
    else
        return 1
    fi
    echo "tests/faces: installing $* with apt-get"
    $as_root apt-get -o DPkg::Lock::Timeout=300 update -qq &&
        $as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -qq -y --no-install-recommends "$@" >apt.log 2>&1 || {
        tail -n 20 apt.log >&2
        return 1
    }
    rm -f apt.log
}

if ! command -v node >/dev/null 2>&1 || ! command -v npm >/dev/null 2>&1; then
    apt_install nodejs npm || fail "install Node.js $NODE_MAJOR_MIN or later with npm (Debian: apt-get install nodejs npm)"
fi
if [ "$(node -p 'process.versions.node.split(".")[0]')" -lt "$NODE_MAJOR_MIN" ]; then
    fail "this is Node.js $(node --version); install $NODE_MAJOR_MIN or later"
fi

# The names under which swagger.js looks for it.
found=
for name in "${VINTNER_CHROMIUM:-}" chromium chromium-browser google-chrome google-chrome-stable; do
    if [ -n "$name" ] && command -v "$name" >/dev/null 2>&1; then
        found=$name
        break
    fi
done
if [ -z "$found" ]; then
    apt_install chromium ||
        fail "install Chromium or Chrome (Debian: apt-get install chromium), or name its program in VINTNER_CHROMIUM"
fi

# Nothing to do when what is installed is what the lock file says.
if [ -f node_modules/.vintner-lock ] && cmp -s package-lock.json node_modules/.vintner-lock; then
    exit 0
fi
npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
cp package-lock.json node_modules/.vintner-lock
