#!/usr/bin/env bash
# Runs the examples of docs/ci.md: writes the files that it shows into a fresh directory, and does there what GitHub
# Actions, GitLab CI and make do. `go install` and `go mod tidy` get hsmkeys from the commit that is
# checked out; everything else is as it stands there. Installs what is missing, as the examples do.
#
# Each service has a PATH of its own:
# shellcheck disable=SC2030,SC2031
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
here=$PWD

# shellcheck source=scripts/packages.sh
. scripts/packages.sh
PATH=/usr/bin:$PATH # the python3 that packages are installed for
missing=
python3 -c 'import yaml' 2>/dev/null || missing="python3-yaml "
command -v sudo >/dev/null || missing+="sudo "
if [ -n "$missing" ]; then
	say "missing: ${missing% }: installing"
	install_packages "python3-yaml sudo" "python3-pyyaml sudo" "py3-yaml sudo" "pyyaml" "install ${missing% } by hand"
fi

work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
GOMODCACHE=$(go env GOMODCACHE)
GOCACHE=$(go env GOCACHE)
export GOMODCACHE GOCACHE GOFLAGS=-modcacherw
[ -z "$(git status --porcelain)" ] || say "there are uncommitted changes: they are left out"
# Whoever asks GitHub for hsmkeys gets a clone of this commit.
git clone -q . "$work/hsmkeys"
git -C "$work/hsmkeys" checkout -q -B main "$(git rev-parse HEAD)"
export GOPRIVATE=github.com/hsmkeys/hsmkeys GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0="url.file://$work/hsmkeys.insteadOf" GIT_CONFIG_VALUE_0=https://github.com/hsmkeys/hsmkeys

# files DIRECTORY: writes the files of the page, each of which begins with its name.
files() {
	python3 - "$here/docs/ci.md" "$1" <<-'END'
		import os, re, sys
		page = open(sys.argv[1]).read()
		for block in re.findall(r"^```\w+\n((?:#|//) (\S+)\n.*?)^```$", page, re.M | re.S):
		    path = os.path.join(sys.argv[2], block[1])
		    os.makedirs(os.path.dirname(path), exist_ok=True)
		    open(path, "w").write(block[0])
	END
}

# step FILE N KIND: prints the Nth script of a job called hsm, as the service would run it; nothing if there are no more.
step() {
	python3 - "$@" <<-'END'
		import sys, yaml
		path, n, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3]
		tree = yaml.safe_load(open(path))
		if kind == "github":
		    scripts = [s["run"] for s in tree["jobs"]["hsm"]["steps"] if "run" in s]
		else: # before_script and script are one
		    job = tree["hsm"]
		    scripts = ["\n".join(job.get("before_script", []) + job["script"])]
		if n < len(scripts):
		    print(scripts[n])
	END
}

# fresh NAME: a directory with the files, and a home with nothing in it.
fresh() {
	mkdir -p "$work/$1/home" "$work/$1/project"
	files "$work/$1/project"
	cd "$work/$1/project"
	export HOME=$work/$1/home GOPATH=$work/$1/go TMPDIR=$work/$1/tmp
	mkdir "$TMPDIR"
}

# clean: nothing is left of the tokens.
clean() {
	left=$(find "$TMPDIR" -maxdepth 1 -name 'softhsm-*')
	[ -z "$left" ] || die "left behind: $left"
}

# as_in_container COMMAND: images run as root.
as_in_container() {
	if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -E env PATH="$PATH" "$@"; fi
}

say "GitHub Actions"
(
	fresh github
	export GITHUB_PATH=$work/github/path
	: >"$GITHUB_PATH"
	n=0
	while script=$(step .github/workflows/hsm.yml "$n" github) && [ -n "$script" ]; do
		while read -r dir; do PATH=$dir:$PATH; done <"$GITHUB_PATH"
		bash --noprofile --norc -eo pipefail -c "$script"
		n=$((n + 1))
	done
	[ "$n" -eq 2 ] || die "$n steps were run"
	[ "$(command -v hsmkeys)" = "$GOPATH/bin/hsmkeys" ] || die "another hsmkeys was tested"
	clean
)

say "GitLab CI"
(
	fresh gitlab
	export PATH=$GOPATH/bin:$PATH # as in the image golang
	script=$(step .gitlab-ci.yml 0 gitlab)
	as_in_container bash -eo pipefail -c "$script"
	[ "$(command -v hsmkeys)" = "$GOPATH/bin/hsmkeys" ] || die "another hsmkeys was tested"
	clean
)

say "make"
(
	fresh make
	export PATH=$work/github/go/bin:$PATH
	make check
	clean
)
say "done"
