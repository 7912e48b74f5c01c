# shellcheck shell=sh
# Read by the scripts that run programs for Windows: finds wine and the compiler, installs them
# where they are missing, and makes a prefix of its own. Sets wine and compiler. Its reader has
# read packages.sh, and calls stop_wine at the end.

find_wine() {
	for wine in wine64 wine /usr/lib/wine/wine64; do
		if command -v "$wine" >/dev/null; then return 0; fi
	done
	return 1
}

compiler=x86_64-w64-mingw32-gcc
if ! find_wine || ! command -v "$compiler" >/dev/null; then
	say "wine or $compiler is missing: installing"
	install_packages "wine64 gcc-mingw-w64-x86-64" "wine-core mingw64-gcc" "wine mingw-w64-gcc" "wine-stable mingw-w64" \
		"install wine and $compiler by hand"
fi
find_wine || die "installed, but still not found: wine"

# use_prefix DIRECTORY: no display, no Mono, no Gecko, and nothing of the user's.
use_prefix() {
	export WINEPREFIX="$1" WINEDEBUG=-all WINEDLLOVERRIDES="mscoree,mshtml,winemenubuilder.exe="
	unset DISPLAY
}

# Of this prefix alone; it ends with the last program anyway, some seconds later.
stop_wine() { "$(dirname "$(readlink -f "$(command -v "$wine")")")/wineserver" -k 2>/dev/null || true; }
