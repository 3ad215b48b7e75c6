# Sourced by the other scripts: goes to the project's folder, makes .venv if it is absent and
# installs the project into it unless that was done with the same pins before.
# PYTHON names the interpreter to use (3.11 or newer); EXTRAS the optional parts to install; VENV
# another environment than .venv; OTHER_PINS a file of pins that go before those of constraints.txt.
cd "$(dirname "${BASH_SOURCE[0]}")/.."
venv=${VENV:-.venv}

if [ ! -x "$venv/bin/python" ]; then
    python=
    for candidate in ${PYTHON:-python3 python3.11 python3.12 python3.13 python3.14}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            python=$candidate
            break
        fi
    done
    if [ -z "$python" ]; then
        echo "error: Python 3.11 or newer is needed; set PYTHON to one (tried: ${PYTHON:-python3 and python3.11 to 3.14})" >&2
        exit 1
    fi
    echo "making $venv with $python"
    if ! "$python" -m venv "$venv"; then
        rm -rf "$venv"
        echo "error: $python cannot make a virtual environment (on Debian: apt install python3-venv)" >&2
        exit 1
    fi
fi

extras=${EXTRAS:-dev}
pins=constraints.txt
stamp=$(cat pyproject.toml constraints.txt ${OTHER_PINS:-} | cksum)
if [ "$(cat "$venv/installed-$extras" 2>/dev/null)" != "$stamp" ]; then
    echo "installing (the first time takes a few minutes)"
    if [ -n "${OTHER_PINS:-}" ]; then
        pins=$venv/constraints.txt
        replaced=$(sed 's/==.*//' "$OTHER_PINS" | paste -s -d '|')
        grep -v -i -E "^($replaced)==" constraints.txt | cat - "$OTHER_PINS" > "$pins"
    fi
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -c "$pins" torch
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -c "$pins" -e ".[$extras]"
    echo "$stamp" > "$venv/installed-$extras"
fi
export PATH="$PWD/$venv/bin:$PATH"
