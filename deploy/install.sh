#!/usr/bin/env bash
# Install tipguard as a service, or bring an installation up to date. Safe to run again: what is right is left alone.
#
#   sudo deploy/install.sh              into this machine
#   deploy/install.sh --dry-run         say what would be done, and do nothing
#   deploy/install.sh --root DIR        into a tree below DIR; no service manager is spoken to (DESTDIR does the same)
#   ... --no-packages                   without the Python environment
#   ... --python PROGRAM                another Python than python3
#
# Never touches /etc/tipguard/*.toml, never starts or stops a service, never switches anything on. deploy/README.md.
set -euo pipefail
umask 022
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source_tree=$(dirname "$here")
# shellcheck source=deploy/common.sh
. "$here/common.sh"

python=python3
packages=1
[ -z "${DESTDIR:-}" ] || root_given "$DESTDIR"
while (($#)); do
    case $1 in
        --dry-run) dry=1 ;;
        --no-packages) packages=0 ;;
        --root | --python)
            (($# > 1)) || fail "$1 wants a value"
            if [ "$1" = --root ]; then root_given "$2"; else python=$2; fi
            shift
            ;;
        -h | --help)
            sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
            exit 0
            ;;
        *) fail "unknown option $1; see --help" ;;
    esac
    shift
done
may_write

# put FILE TARGET MODE: copy if it differs. Written beside and moved, so that nobody ever reads half of it.
put() {
    local from=$1 to=$root$2 mode=$3
    if cmp -s "$from" "$to" && [ "$(stat -c %a "$to")" = "$mode" ]; then
        say "unchanged  $2"
    elif ((dry)); then
        say "would write  $2"
    else
        mkdir -p "$(dirname "$to")"
        install -m "$mode" "$from" "$to.new"
        mv -f "$to.new" "$to"
        say "written    $2"
    fi
}

# link TARGET NAME: a symbolic link, replaced in one step.
link() {
    local to=$root$2
    if [ "$(readlink "$to" 2>/dev/null)" = "$1" ]; then
        say "unchanged  $2"
    elif ((dry)); then
        say "would link  $2 -> $1"
    elif [ -e "$to" ] && [ ! -L "$to" ]; then
        fail "$2 is there and not a link of ours; move it away"
    else
        mkdir -p "$(dirname "$to")"
        ln -sfn "$1" "$to.new"
        mv -fT "$to.new" "$to"
        say "linked     $2 -> $1"
    fi
}

account() {
    put "$here/systemd/tipguard.sysusers" /etc/sysusers.d/tipguard.conf 644
    if command -v systemd-sysusers >/dev/null; then
        # Into a tree it needs root, too; without, the first boot of that tree does it.
        do_it systemd-sysusers ${root:+"--root=$root"} "$root/etc/sysusers.d/tipguard.conf" || [ -n "$root" ]
    elif [ -n "$root" ]; then
        say "no systemd-sysusers here: the user tipguard is made at the first boot of that tree"
    else
        local group
        for group in dialout gpio tipguard; do
            getent group "$group" >/dev/null || do_it groupadd --system "$group"
        done
        getent passwd tipguard >/dev/null || do_it useradd --system --gid tipguard --groups dialout,gpio \
            --home-dir /var/lib/tipguard --no-create-home --shell /usr/sbin/nologin tipguard
    fi
}

# The program in a folder of its own, named by what is in it, and /opt/tipguard a link to it: what runs now keeps the
# files it began with, safe-off among them, and a failed installation changes nothing.
program() {
    local stamp folder name work
    stamp=$(cd "$source_tree" && {
        cat requirements.lock pyproject.toml && "$python" -V
        find edge firmware_proto hil -type f ! -name '*.pyc' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
    } | sha256sum)
    name=/opt/tipguard.d/${stamp:0:12}
    folder=$root$name
    if [ -e "$folder/complete" ]; then
        say "unchanged  $name"
    elif ((dry)); then
        say "would install the packages of requirements.lock and tipguard into $name"
    else
        "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
            fail "$python is $("$python" -V 2>&1); this needs 3.11 or newer: --python python3.12"
        "$python" -c 'import venv, ensurepip' 2>/dev/null ||
            fail "$python has no venv module: sudo apt install python3-venv"
        rm -rf "$folder"
        mkdir -p "$(dirname "$folder")"
        work=$(mktemp -d)
        # shellcheck disable=SC2064 # the folder of now
        trap "rm -rf '$work'" EXIT
        say "installing the packages of requirements.lock into $name"
        "$python" -m venv "$folder"
        local pip=("$folder/bin/python" -m pip --disable-pip-version-check --no-input install --quiet --no-deps)
        "${pip[@]}" --only-binary=:all: --requirement "$source_tree/requirements.lock" ||
            fail "the locked packages could not be installed: no network, or no wheels for this machine (64-bit Linux" \
                "on x86-64 or aarch64 is needed)"
        # A copy: building leaves files where it builds.
        cp -R "$source_tree"/{edge,firmware_proto,hil,pyproject.toml,README.md,LICENSE} "$work"
        "${pip[@]}" --no-build-isolation "$work"
        "$folder/bin/tipguard" --version
        mkdir -p "$folder/share"
        cp "$here/README.md" "$folder/share/"
        touch "$folder/complete"
        say "written    $name"
    fi
    link "${name#/opt/}" /opt/tipguard
    link /opt/tipguard/bin/tipguard /usr/local/bin/tipguard
    # What ran before may still run: a folder goes once no process was started from it. The one before last stays.
    local old
    while IFS= read -r old; do
        if [ "$old" != "${name##*/}" ] && ! in_use "$old"; then
            do_it rm -rf "$root/opt/tipguard.d/${old:?}"
        fi
    done < <(newest_first | tail -n +3)
}

newest_first() {
    find "$root/opt/tipguard.d" -mindepth 1 -maxdepth 1 -printf '%T@ %f\n' 2>/dev/null | sort -rn | cut -d' ' -f2
}

in_use() { # in_use NAME: a process of this machine was started from that folder
    [ -z "$root" ] && grep -qsF "/opt/tipguard.d/$1/" /proc/[0-9]*/cmdline
}

services() {
    local unit template
    for unit in "${units[@]}"; do
        put "$here/systemd/$unit.service" "/etc/systemd/system/$unit.service" 644
        # The same for any number of further rigs.
        template=$(mktemp)
        sed -e 's|/etc/tipguard/rig\.toml|/etc/tipguard/%i.toml|' \
            -e 's|^\(After=.*\)tipguard-controller\.service|\1tipguard-controller@%i.service|' \
            -e 's|^\(LoadCredential=.*:tipguard\)\.rig\.|\1.%i.|' \
            -e 's|^\(Description=.*\)$|\1 (%i)|' "$here/systemd/$unit.service" >"$template"
        put "$template" "/etc/systemd/system/$unit@.service" 644
        rm -f "$template"
    done
    # For a lab's server. A template: nothing runs before somebody names a store.
    put "$here/systemd/tipguard-store@.service" /etc/systemd/system/tipguard-store@.service 644
    put "$here/systemd/tipguard.tmpfiles" /etc/tmpfiles.d/tipguard.conf 644
    put "$here/udev/60-tipguard.rules" /etc/udev/rules.d/60-tipguard.rules 644
}

configuration() {
    local folder=$root/etc/tipguard
    if [ -d "$folder" ]; then
        say "unchanged  /etc/tipguard"
    elif ((dry)); then
        say "would make  /etc/tipguard"
    else
        mkdir -p "$folder"
        say "made       /etc/tipguard"
    fi
    # Readable for the service, and for nobody else: a password may be in there.
    if ((!dry)); then
        chmod 750 "$folder"
        if ((!EUID)); then
            chgrp "$(group_id)" "$folder"
        fi
    fi
}

group_id() { # of tipguard in the tree; root where there is none yet
    awk -F: '$1 == "tipguard" {id = $3} END {print id + 0}' "$root/etc/group" 2>/dev/null || echo 0
}

announce() {
    if systemd_runs; then
        do_it systemd-tmpfiles --create /etc/tmpfiles.d/tipguard.conf
        do_it systemctl daemon-reload
        if [ -e /etc/tipguard/rig.toml ]; then
            do_it systemctl --quiet enable "${units[@]}"
        fi
    fi
    if udev_runs; then
        do_it udevadm control --reload
        do_it udevadm trigger --subsystem-match={usb,usb-serial,tty,gpio}
    fi
}

next() {
    if [ ! -e "$root/etc/tipguard/rig.toml" ]; then
        say "next: sudo tipguard init /etc/tipguard/rig.toml ..., as in deploy/README.md"
    elif systemd_runs && systemctl --quiet is-active tipguard-controller; then
        say "a controller runs, with the program it began with. When the rig is at rest:"
        say "sudo systemctl restart ${units[*]}"
    else
        say "next: sudo systemctl start ${units[*]}; deploy/README.md"
    fi
}

account
((!packages)) || program
services
configuration
announce
next
