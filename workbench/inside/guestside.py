"""The shell programs that run in the guest: one carries out a command, one serves requests on the console.

POSIX `sh` with `head`, `base64`, `sha256sum`, `mkfifo`, `mkdir`, `dd`, `sed`, `wc`, `rm` of busybox or coreutils;
`setsid` and `stty` where the guest has them. A command works in `/`, as whoever the shell is. All that they make lies
in one directory of mode 0700 with a random name, under the first of `/tmp`, `/var/tmp`, `/dev/shm`, `/run` to take it.

Refuses to leave anything to the guest's line editor: what a user could see typed is one line without content.
"""

from __future__ import annotations

__all__ = ["AGENT", "KILL", "MAKE", "REMOVE", "SERVE", "START", "TELL"]

_FOLDER = r"""
umask 077
PATH=${PATH:-/usr/sbin:/usr/bin:/sbin:/bin}; export PATH
d=
for e in /tmp /var/tmp /dev/shm /run; do mkdir -m 700 "$e/.rwb-$1" 2>/dev/null && d=$e/.rwb-$1 && break; done
cd /
"""
"""Makes `$d` of a name; a directory that is there already is another's, and is not taken."""

# A daemon that a command leaves behind holds its pipes open: a second after the command has ended the copying ends.
# Every process costs milliseconds, more under TCG in a fresh clone, so builtins do what they can: a pipe is only
# drained while its command runs, a fork yields before anything sleeps, and what is empty is neither measured nor read.
_GO = r"""
keep() { head -c "$1" >"$d/$2"; [ -e "$d/done" ] || cat >/dev/null; : >"$d/$2.end"; }
go() {
    mkfifo "$d/o" "$d/e" "$d/p" "$d/q"
    cat <"$d/o" >"$d/p" & a=$!
    cat <"$d/e" >"$d/q" & b=$!
    keep "$1" out <"$d/p" & x=$!
    keep "$1" err <"$d/q" & y=$!
    s= f=/dev/null
    command -v setsid >/dev/null && s=setsid
    [ -e "$d/in" ] && f=$d/in
    $s sh "$d/cmd" <"$f" >"$d/o" 2>"$d/e" &
    echo $! >"$d/pid"
    wait $!
    r=$?
    : >"$d/done"
    i=0
    until [ -e "$d/out.end" ] && [ -e "$d/err.end" ]; do
        i=$((i + 1))
        [ $i -gt 60 ] && { kill $a $b; break; }
        [ $i -gt 10 ] || { (:); continue; }
        sleep 0.02 2>/dev/null || sleep 1
    done
    wait $x $y
    echo $r >"$d/rc"
} 2>/dev/null
ended() { [ -s "$d/pid" ] || return 1; read -r k <"$d/pid"; kill -9 -"$k" 2>/dev/null || kill -9 "$k" 2>/dev/null; }
size() { s=0; [ ! -s "$d/$1" ] || s=$(wc -c <"$d/$1"); s=$((s + 0)); }
"""

START = (
    _FOLDER
    + r"""
[ -n "$d" ] || { printf '\n%s 0 nodir .\n' "$1"; exit; }
head -n "$3" | base64 -d >"$d/serve" && exec sh "$d/serve" "$1" "$2" "$d"
rm -rf "$d"
"""
)
"""`sh -c START rwb TOKEN TERMINAL LINES`: takes the server from the console: its text is in no list of processes."""

SERVE = (
    _GO
    + r"""
T=$1 last= said= g=
say() { said="$*"; printf '\n%s %s %s .\n' "$T" "$n" "$said"; }
bye() {
    [ -n "$g" ] && [ ! -e "$d/rc" ] && { ended || { sleep 1; ended; }; wait $g; }  # or it writes into what is removed
    rm -rf "$d"
    [ -n "$o" ] && stty "$o"
}
o=$2 d=$3 n=0
trap bye EXIT
trap exit INT TERM HUP
say ready
while read -r t n c f v w; do
    [ -z "$t" ] && continue
    [ "$t" = "$T" ] || break
    [ "$c" = w ] && head -n "$v" | base64 -d >"$d/part" 2>/dev/null
    [ "$n" = "$last" ] && [ "$c" != r ] && { say "$said"; continue; }
    last=$n
    case $c in
    w) s=$(sha256sum <"$d/part")
        if [ "${s%% *}" = "$w" ]; then cat "$d/part" >>"$d/$f" && say ok || say full; else say bad; fi ;;
    x) { go "$f"; printf '\n%s 0 ended .\n' "$T"; } </dev/null & g=$!
        say ok ;;
    p) if [ -e "$d/rc" ]; then
            read -r r <"$d/rc"; size out; z=$s; size err; say ended $r $z $s
        else say running; fi ;;
    k) ended && say ok || say none ;;
    r) dd if="$d/$f" bs=1024 skip="$v" count="$w" of="$d/part" 2>/dev/null
        base64 <"$d/part" | sed "s/^/${T%????????????}:/"
        s=$(sha256sum <"$d/part"); say data ${s%% *} ;;
    s) s=$(sha256sum <"$d/$f"); say sum ${s%% *} ;;
    q) say bye; exit ;;
    *) say what ;;
    esac
done
"""
)
"""`sh SERVE TOKEN TERMINAL FOLDER`: serves requests `TOKEN NUMBER OP ...`, each answered `TOKEN NUMBER ... .`.

A request whose number was answered already gets the same answer and is not carried out again: so one may be sent again
where its answer was lost in what others wrote to the console. Anything without the token ends it.
"""

MAKE = (
    _FOLDER
    + r"""
[ -n "$d" ] || exit 3
"""
)
"""Makes the folder of the name `$1`, or ends with 3."""

TELL = r"""
echo "$d"
"""

AGENT = (
    _GO
    + r"""
go "$2"
size out; o=$s; size err
printf '%s %s %s %s\n' "$r" "$o" "$s" "$d"
[ $((o + s)) -le "$3" ] || exit 0
[ "$o" = 0 ] || cat "$d/out"
[ "$s" = 0 ] || cat "$d/err" >&2
exec rm -rf "$d"
"""
)
"""`sh -s NAME BYTES SMALL`, with `$d` and `cmd` in it: prints exit code, sizes and folder, and what is small."""

KILL = r"""
for e in /tmp /var/tmp /dev/shm /run; do
    read -r k <"$e/.rwb-$1/pid" && { kill -9 -"$k" || kill -9 "$k"; } && exit 0
done 2>/dev/null
exit 1
"""
"""`sh -s NAME`: ends the command of a folder."""

REMOVE = r"""
for e in /tmp /var/tmp /dev/shm /run; do rm -rf "$e/.rwb-$1"; done
"""
"""`sh -s NAME`: removes the folder."""
