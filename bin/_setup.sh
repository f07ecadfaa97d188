# Sourced by bin/test, bin/quickstart and .ci/run: makes what they need, on a bare Debian machine too.
#
#   mistamover_setup [EXTRAS]     e.g. mistamover_setup test,dev
#
# Afterwards MISTAMOVER_TOP is the checkout, MISTAMOVER_VENV its environment, and MISTAMOVER_PYTHON the
# interpreter in it.  It is safe to call again (nothing changed: nothing done) and at the same time from
# two shells (the second waits).  pip's own settings (PIP_*, pip.conf) are used as they are.

MISTAMOVER_TOP=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd -P)
MISTAMOVER_VENV=${MISTAMOVER_VENV:-$MISTAMOVER_TOP/.venv}
MISTAMOVER_PYTHON=$MISTAMOVER_VENV/bin/python

# Print a Python that is new enough and able to make environments.  A name in PATH is no proof: it is run.
_ms_find_python() {
    local candidate
    for candidate in python3.13 python3.12 python3.11 python3; do
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            command -v "$candidate"
            return 0
        fi
    done
    return 1
}

# Whether the environment stands and runs; one whose making was cut short has no pip.
_ms_environment_runs() {
    "$MISTAMOVER_PYTHON" -c 'import importlib.util as u, sys; sys.exit(not u.find_spec("pip"))' >/dev/null 2>&1
}

# Given a list of extras, print the Debian packages that are missing, one per line.
_ms_missing_packages() {
    if [[ ,$1, == *,test,* ]]; then
        # The tests make directories that even root cannot write to, and small filesystems that are full.
        command -v chattr >/dev/null || echo e2fsprogs
        command -v mount >/dev/null || echo mount
        # Large ones.  Who cannot install them, and is no CI, leaves out the tests with a message broker, a database
        # server and GridFTP.
        if [ -n "${CI:-}" ] || { [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; }; then
            command -v globus-url-copy >/dev/null || echo globus-gass-copy-progs
            command -v grid-proxy-init >/dev/null || echo globus-proxy-utils
            PATH=$PATH:/usr/sbin command -v globus-gridftp-server >/dev/null || echo globus-gridftp-server-progs
            command -v gfal-rename >/dev/null || printf '%s\n' gfal2-util-scripts gfal2-plugin-gridftp gfal2-plugin-file
            [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || command -v rabbitmq-server >/dev/null || echo rabbitmq-server
            command -v redis-server >/dev/null || echo redis-server
            compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null || echo postgresql
            command -v chromium >/dev/null || command -v google-chrome >/dev/null || echo chromium
        fi
    fi
    _ms_environment_runs || _ms_find_python >/dev/null || printf '%s\n' python3 python3-venv
    command -v rsync >/dev/null || echo rsync
    { command -v ssh && command -v ssh-keygen; } >/dev/null || echo openssh-client
    PATH=$PATH:/usr/local/sbin:/usr/sbin command -v sshd >/dev/null || echo openssh-server
}

# Run a command with its output hidden; show the output only if the command fails.  It does not inherit the
# lock: a service that a package starts must not hold it for ever.
_ms_quietly() {
    local output status=0
    output=$(mktemp)
    "$@" </dev/null >"$output" 2>&1 {lock}>&- || status=$?
    if [ "$status" -ne 0 ]; then
        echo "setup: failed with status $status: $*" >&2
        cat "$output" >&2
    fi
    rm -f "$output"
    return "$status"
}

# Given Debian packages, install them; none of their services is started, now or at the next boot: our servers are
# private ones.
_ms_install() (
    local policy=/usr/sbin/policy-rc.d service fresh=()
    command -v epmd >/dev/null || fresh=(epmd.socket epmd.service)
    if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy" || return
    fi
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" || return
    command -v systemctl >/dev/null || return 0
    [[ " $* " == *" rabbitmq-server "* ]] && set -- "$@" rabbitmq-server.service "${fresh[@]}"
    [[ " $* " == *" redis-server "* ]] && set -- "$@" redis-server.service
    [[ " $* " == *" postgresql "* ]] && set -- "$@" postgresql.service
    for service in "$@"; do
        [[ $service != *.service && $service != *.socket ]] || systemctl disable "$service" || true
    done
)

_ms_system_packages() {
    local missing extras=$1
    mapfile -t missing < <(_ms_missing_packages "$extras")
    [ "${#missing[@]}" -gt 0 ] || return 0
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        {
            echo "setup: something is missing. Install it, then run this again:"
            echo "    apt-get install --no-install-recommends ${missing[*]}"
            echo "(Python has to be 3.11 or newer, with its venv module.)"
        } >&2
        return 3
    fi
    echo "setup: installing ${missing[*]} ..." >&2
    _ms_quietly apt-get update || return
    _ms_quietly _ms_install "${missing[@]}" || return
    mapfile -t missing < <(_ms_missing_packages "$extras")
    if [ "${#missing[@]}" -gt 0 ]; then
        echo "setup: still missing after apt-get install: ${missing[*]} (Python has to be 3.11 or newer)" >&2
        return 3
    fi
}

# Given a list of extras, install the package and them into the environment, unless that was done already.
# One stamp per extra inside the environment holds the hash of the files that say what is needed.
_ms_environment() {
    local extras=$1 hash python stamp extra fresh=1 stamps=("$MISTAMOVER_VENV/.stamp-base")
    hash=$(cat "$MISTAMOVER_TOP/setup.cfg" "$MISTAMOVER_TOP/pyproject.toml" \
        "$MISTAMOVER_TOP/lib/mistamover/__init__.py" <(echo "$MISTAMOVER_TOP") | sha256sum) || return
    for extra in ${extras//,/ }; do
        stamps+=("$MISTAMOVER_VENV/.stamp-$extra")
    done

    if ! _ms_environment_runs; then
        python=$(_ms_find_python) || return
        echo "setup: making $MISTAMOVER_VENV with $("$python" -V 2>&1) ..." >&2
        # --clear: what stands there does not run (its Python was removed, or a first attempt was cut short).
        _ms_quietly "$python" -m venv --clear "$MISTAMOVER_VENV" || return
    fi
    for stamp in "${stamps[@]}"; do
        [ "$(cat "$stamp" 2>/dev/null)" = "$hash" ] || fresh=0
    done
    [ "$fresh" -eq 0 ] || return 0

    echo "setup: installing Python packages ..." >&2
    _ms_quietly "$MISTAMOVER_PYTHON" -m pip install --quiet --editable "$MISTAMOVER_TOP${extras:+[$extras]}" || return
    for stamp in "${stamps[@]}"; do
        printf '%s\n' "$hash" >"$stamp"
    done
}

mistamover_setup() {
    local status=0 lock
    mkdir -p "$(dirname "$MISTAMOVER_VENV")" || return
    exec {lock}>>"$MISTAMOVER_VENV.lock" || return
    if ! flock --wait 600 "$lock"; then
        echo "setup: another setup has held $MISTAMOVER_VENV.lock for ten minutes" >&2
        exec {lock}>&-
        return 1
    fi
    { _ms_system_packages "${1:-}" && _ms_environment "${1:-}"; } || status=$?
    exec {lock}>&-
    return "$status"
}
