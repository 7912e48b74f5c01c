# shellcheck shell=bash
# shellcheck disable=SC2154 # dir is set by the script that sources this
# Sourced by the scripts that run a command with a PKCS #11 module: starts daemons, waits for
# them and stops them. Their files are below $dir.

say() { printf 'tokens/%s: %s\n' "$(basename "$0" .sh)" "$*" >&2; }
die() { say "$*"; exit 125; }

# Prints the first of these files that exists.
first_file() { local file; for file; do if [ -f "$file" ]; then echo "$file"; return; fi; done; return 1; }

# running NAME: reports whether the daemon runs; a zombie does not.
running() {
	local pid
	pid=$(cat "$dir/$1.pid" 2>/dev/null) && kill -0 "$pid" 2>/dev/null &&
		! grep -q '^State:[[:space:]]*Z' "/proc/$pid/status" 2>/dev/null
}

# daemon NAME COMMAND...: starts a daemon that outlives this shell, with its output in NAME.log.
daemon() {
	local name=$1
	shift
	setsid "$@" </dev/null >"$dir/$name.log" 2>&1 &
	echo $! >"$dir/$name.pid"
	disown # or bash reports when it is stopped
}

# await NAME COMMAND...: waits until the command succeeds, for at most ten seconds.
await() {
	local name=$1 deadline=$((SECONDS + 10))
	shift
	while [ "$SECONDS" -le "$deadline" ]; do
		if "$@" >/dev/null 2>&1; then return; fi
		running "$name" || break
		sleep 0.1
	done
	say "$name was not ready in time; its log:"
	cat "$dir/$name.log" >&2
	exit 125
}

# end NAME: stops a daemon of ours and its children, by force after five seconds.
end() {
	local i signal=TERM
	for ((i = 0; i < 100; i++)); do
		running "$1" || break
		if [ "$i" -eq 50 ]; then signal=KILL; fi
		if [ $((i % 50)) -eq 0 ]; then kill -"$signal" -- "-$(cat "$dir/$1.pid")" 2>/dev/null || true; fi
		sleep 0.1
	done
	rm -f "$dir/$1.pid"
}

# Runs the command; a signal that only this shell receives is passed on to it.
run() {
	local status=0
	"$@" <&0 &
	child=$!
	trap 'kill "$child" 2>/dev/null || true; wait "$child" || true; exit 143' INT TERM HUP
	wait "$child" || status=$?
	exit "$status"
}
