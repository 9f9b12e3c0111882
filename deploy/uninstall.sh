#!/usr/bin/env bash
# Take tipguard off this machine. Stops the services first, which switches the output off and verifies it.
#
#   sudo deploy/uninstall.sh            program, services, udev rules; configuration and data stay
#   sudo deploy/uninstall.sh --purge    also /etc/tipguard, /var/lib/tipguard (the flight record, the rig's profile) and
#                                       the user; never an outbox, which may hold what no store has, and never
#                                       /var/lib/tipguard-store, which is the lab's data
#   ... --dry-run, --root DIR           as for install.sh
#
# Safe to run again: what is gone is not missed.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=deploy/common.sh
. "$here/common.sh"

purge=0
[ -z "${DESTDIR:-}" ] || root_given "$DESTDIR"
while (($#)); do
    case $1 in
        --dry-run) dry=1 ;;
        --purge) purge=1 ;;
        --root)
            (($# > 1)) || fail "$1 wants a value"
            root_given "$2"
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

# gone PATH: remove a file, a link or a folder of ours.
gone() {
    if [ -e "$root$1" ] || [ -L "$root$1" ]; then
        do_it rm -rf -- "$root$1"
        ((dry)) || say "removed  $1"
    fi
}

# An outbox of a rig, in use, put aside as damaged, or on its way there.
has_outbox() { compgen -G "$root/var/lib/tipguard/outbox/*/outbox.sqlite*" >/dev/null; }

if systemd_runs; then
    mapfile -t known < <(systemctl list-units --all --plain --no-legend \
        'tipguard-controller*' 'tipguard-uplink*' 'tipguard-store@*' | awk '{print $1}')
    # Controllers first: the uplinks take what the stop leaves in the ring.
    for unit in "${known[@]}"; do
        case $unit in tipguard-controller*) do_it systemctl stop "$unit" ;; esac
    done
    for unit in "${known[@]}"; do
        case $unit in tipguard-uplink* | tipguard-store@*) do_it systemctl stop "$unit" ;; esac
    done
    for unit in "${known[@]}" "${units[@]/%/.service}"; do
        do_it systemctl --quiet disable "$unit" 2>/dev/null || true
    done
fi
for unit in "${units[@]}"; do
    gone "/etc/systemd/system/$unit.service"
    gone "/etc/systemd/system/$unit@.service"
done
gone /etc/systemd/system/tipguard-store@.service
gone /etc/udev/rules.d/60-tipguard.rules
gone /etc/tmpfiles.d/tipguard.conf
gone /etc/sysusers.d/tipguard.conf
if [ "$(readlink "$root/usr/local/bin/tipguard" 2>/dev/null)" = /opt/tipguard/bin/tipguard ]; then
    gone /usr/local/bin/tipguard
fi
if [ -L "$root/opt/tipguard" ]; then
    gone /opt/tipguard
fi
gone /opt/tipguard.d
if systemd_runs; then do_it systemctl daemon-reload; fi
if udev_runs; then do_it udevadm control --reload; fi

if ((purge)); then
    gone /etc/tipguard
    if has_outbox; then
        for path in "$root"/var/lib/tipguard/*; do
            [ "${path##*/}" = outbox ] || gone "${path#"$root"}"
        done
        say "kept: /var/lib/tipguard/outbox: frames that a store may not have yet. Once every store has them: rm -r it"
    else
        gone /var/lib/tipguard
    fi
    gone /run/tipguard
    # The user stays as long as data are the user's.
    if [ -z "$root" ] && [ ! -e /var/lib/tipguard-store ] && [ ! -e /var/lib/tipguard ] && getent passwd tipguard >/dev/null; then
        do_it userdel tipguard
    fi
elif [ -e "$root/etc/tipguard" ] || [ -e "$root/var/lib/tipguard" ]; then
    say "kept: /etc/tipguard and /var/lib/tipguard, configuration and data; --purge removes them"
fi
if [ -e "$root/var/lib/tipguard-store" ]; then
    say "kept: /var/lib/tipguard-store, what the rigs have sent; yours to remove"
fi
