package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hsmkeys/hsmkeys/blob/store/s3/s3test"
	"github.com/hsmkeys/hsmkeys/cmd/internal/commandline"
	"github.com/hsmkeys/hsmkeys/softhsm"
)

// staged are the examples of help in an order in which they can be run, with what has to
// be there before. "fresh NAME" is a place of its own, with a token office that is blank.
var staged = []struct{ before, line string }{
	// The main story: a token, keys, files.
	{`unset HSMKEYS_PIN_SOURCE`, `hsmkeys --module /usr/lib/softhsm/libsofthsm2.so token init office`},
	{``, `hsmkeys --module /usr/lib/softhsm/libsofthsm2.so --token office init`},
	{``, `hsmkeys create payroll`},
	{`echo 'The salaries of March.' >march.ods`, `hsmkeys encrypt --key payroll -o march.age march.ods`},
	{``, `hsmkeys decrypt -o march.ods march.age`},
	{`mkdir archive; cp march.ods archive`, `tar c archive | hsmkeys encrypt --key payroll >archive.tar.age`},
	{`rm -r archive`, `hsmkeys decrypt archive.tar.age | tar x`},
	{`ls archive/march.ods; hsmkeys create audit`, `hsmkeys encrypt -k payroll -k audit -o march.age march.ods`},
	{``, `hsmkeys encrypt -a -k payroll march.ods >march.asc`},
	{``, `hsmkeys certificate -o owner.pem`},
	{``, `hsmkeys certificate --capi -o owner.blob`},
	{``, `hsmkeys create site-b/audit --algorithm hmac-sha256`},
	{``, `hsmkeys load site-b/audit --label audit-mac`},
	{``, `hsmkeys list --loaded`},
	{`hsmkeys rotate site-b/audit`, `hsmkeys load site-b/audit --label audit-mac --replace`},
	{``, `hsmkeys unload --label audit-mac`},
	{`hsmkeys load site-b/audit --label again`, `hsmkeys unload site-b/audit`},
	{``, `hsmkeys create archive --from-password --kdf pbkdf2`},
	{``, `hsmkeys rotate archive --new-password`},
	{``, `hsmkeys rotate payroll`},
	{``, `hsmkeys create site-b/db site-b/web --description 'backups' --rotate-every 90d`},
	{``, `hsmkeys create season --expires 2027-12-31`},
	{``, `hsmkeys describe payroll 'salaries, since 2026'`},
	{``, `hsmkeys describe payroll --rotate-every 90d --expires 365d`},
	{``, `hsmkeys rename season seasons/2027 --reason 'one a year'`},
	{``, `hsmkeys rotate --due --reason monthly`},
	{``, `hsmkeys rotate site-b/`},
	{``, `hsmkeys list --due`},
	{``, `hsmkeys list --sort created --columns name,age,description`},
	{``, `hsmkeys list 'site-*/db' --jsonl`},
	{``, `hsmkeys files --under payroll@1 archive`},
	{``, `hsmkeys files --under payroll@1 -0 . | xargs -0 hsmkeys reencrypt`},
	{``, `hsmkeys reencrypt march.age`},
	{``, `hsmkeys compromised payroll@1 --reason 'disk stolen'`},
	{``, `hsmkeys compromised site-b/db --reason 'disk stolen'`},
	{``, `hsmkeys deactivate site-b/web --reason 'the site has closed'`},
	{``, `hsmkeys activate site-b/web`},
	{``, `hsmkeys destroy site-b/ --reason 'retention ends' --dry-run`},
	{``, `hsmkeys destroy site-b/db --reason 'retention ends'`},
	{``, `hsmkeys deactivate site-b/`},
	{`hsmkeys activate site-b/`, `hsmkeys list`},
	{``, `hsmkeys list --certificate owner.pem`},
	{``, `hsmkeys list site-b/ --all-versions`},
	{``, `hsmkeys show payroll`},
	{``, `hsmkeys show payroll@1 --json`},
	{``, `hsmkeys history payroll`},
	{``, `hsmkeys log payroll`},
	{``, `hsmkeys log --since 30d --json`},
	{``, `hsmkeys checkpoint`},
	{``, `hsmkeys checkpoint --fresh`},
	{``, `hsmkeys store compact`},
	{``, `hsmkeys store compact --keep 100`},
	{``, `hsmkeys file info march.age`},
	{``, `hsmkeys file info march.age --certificate owner.pem`},
	{``, `hsmkeys reveal payroll --hex -o payroll.hex`},
	{``, `hsmkeys verify`},
	{``, `hsmkeys verify payroll --certificate owner.pem`},
	// There is no such disk: what would open it gets the key.
	{`hsmkeys create volumes/home; cryptsetup() { test "$(wc -c)" -eq 32; }`, `hsmkeys reveal volumes/home | cryptsetup open --key-file - /dev/sdb1 home`},
	{``, `hsmkeys export payroll --cms -o payroll.cms`},
	{`openssl req -x509 -newkey rsa:2048 -nodes -keyout /dev/null -subj /CN=peer -out peer.pem`, `hsmkeys export payroll --capi --to peer.pem -o payroll.blob`},

	// Authorities, owners, the loss.
	{`hsmkeys token init vault --so-pin-source file:so-pin`, `hsmkeys --token vault init --pair-only`},
	{`hsmkeys --token vault certificate -o vault.pem`, `hsmkeys authority add vault.pem`},
	{``, `hsmkeys rewrap`},
	{``, `hsmkeys --token vault join --vouched-by owner.pem`},
	{``, `hsmkeys --token vault join --checkpoint ` + aPoint},
	{``, `hsmkeys join --replace-pin --checkpoint ` + aPoint},
	{``, `hsmkeys authority list`},
	{``, `hsmkeys drill`},
	{``, `hsmkeys --token vault drill --prove --sample 20 --html report.html`},
	{`hsmkeys create canary`, `hsmkeys --token vault drill --rehearse`},
	{``, `hsmkeys drill --certificate owner.pem --strict --proof-age 90d --junit drill.xml`},
	{`hsmkeys token init two --so-pin-source file:so-pin; hsmkeys --token two init --pair-only --key-type p256; hsmkeys --token two certificate -o second.pem`,
		`hsmkeys owner add second.pem --label second`},
	{`hsmkeys token init card --so-pin-source file:so-pin; export HSMKEYS_TOKEN='pkcs11:token=card;object=opens'
		hsmkeys --token card init --pair-only --label opens --key-type rsa2048; hsmkeys --token card init --pair-only --label signs --key-type p256
		hsmkeys --token 'pkcs11:token=card;object=signs' certificate -o card-signing.pem; hsmkeys certificate -o card.pem
		export HSMKEYS_TOKEN=office`,
		`hsmkeys owner add card.pem --signing-certificate card-signing.pem`},
	{``, `hsmkeys owner list`},
	{``, `hsmkeys owner list --certificate owner.pem`},
	{``, `hsmkeys owner remove second --rotate`},
	{``, `hsmkeys rotate --former`},
	{``, `hsmkeys rewrap payroll site-b/audit`},
	{``, `hsmkeys doctor`},
	{``, `hsmkeys doctor --json --pin-source file:/run/secrets/pin`},
	{`hsmkeys token init spare --so-pin-source file:so-pin; hsmkeys --token spare init --pair-only; hsmkeys --token spare certificate -o spare.pem
		cp -a store copy; export HSMKEYS_STORE=$PWD/copy`,
		`hsmkeys --token vault recover --from owner.pem --to spare.pem --reason 'fire in room 3'`},
	{`export HSMKEYS_STORE=$PWD/copy`, `hsmkeys --token vault recover --from owner.pem --to spare.pem --reason fire --yes`},
	{``, `hsmkeys authority remove vault --rotate`},
	{`cp -a store mnt-copy; hsmkeys create here; XDG_STATE_HOME=$PWD/elsewhere hsmkeys --store mnt-copy create there`, `hsmkeys merge /mnt/copy`},
	{`fresh accept; init_token; hsmkeys init --key-type p256; cd accept; hsmkeys certificate -o office.pem
		for label in vault spare two; do
			hsmkeys token init $label --so-pin-source file:../so-pin; hsmkeys --token $label init --pair-only --key-type p256; hsmkeys --token $label certificate -o $label.pem
		done
		hsmkeys authority add vault.pem --yes; hsmkeys owner add two.pem --yes
		for label in vault two; do hsmkeys --token $label join --vouched-by office.pem --yes; done
		hsmkeys --token vault recover --from office.pem --to spare.pem --reason fire --yes; export HSMKEYS_TOKEN=two`,
		`hsmkeys accept ` + aPoint},

	// A quorum, and two owners who agree.
	{`fresh quorum; init_token; hsmkeys init --key-type p256; cd quorum; hsmkeys certificate -o owner.pem; hsmkeys create payroll
		for label in alice bob carol dave spare second; do
			hsmkeys token init $label --so-pin-source file:../so-pin; hsmkeys --token $label init --pair-only --key-type p256; hsmkeys --token $label certificate -o $label.pem
		done`,
		`hsmkeys quorum create board --threshold 2 alice.pem bob.pem carol.pem`},
	{inQuorum + `; hsmkeys rewrap`, `hsmkeys quorum list`},
	{inQuorum, `hsmkeys quorum list --certificate owner.pem`},
	{inQuorum, `hsmkeys --token alice quorum check --vouched-by owner.pem`},
	{inQuorum, `hsmkeys --token alice quorum check`},
	{inQuorum + `; cp -a "$HSMKEYS_STORE" copy; export HSMKEYS_STORE=$PWD/copy; hsmkeys --token bob quorum check --vouched-by owner.pem`,
		`hsmkeys quorum request board --from owner.pem --to spare.pem --reason 'fire in room 3' -o request.pem`},
	{inQuorum + `; export HSMKEYS_STORE=$PWD/copy`, `hsmkeys --token alice quorum approve request.pem -o alice.approval`},
	{inQuorum + `; export HSMKEYS_STORE=$PWD/copy; hsmkeys --token bob quorum approve request.pem -o bob.approval --yes`,
		`hsmkeys recover --request request.pem --approval alice.approval --approval bob.approval`},
	{inQuorum, `hsmkeys policy`},
	{inQuorum, `hsmkeys policy --recovery quorum-only`},
	{inQuorum + `; hsmkeys owner add second.pem --yes; hsmkeys --token second join --vouched-by owner.pem --yes`, `hsmkeys policy --changes two-owners`},
	{inQuorum + `; hsmkeys token init vault --so-pin-source file:../so-pin; hsmkeys --token vault init --pair-only --key-type p256; hsmkeys --token vault certificate -o vault.pem`,
		`hsmkeys authority add vault.pem --propose vault.proposal`},
	{inQuorum, `hsmkeys --token second approve vault.proposal`},
	{inQuorum + `; hsmkeys policy --changes owner --propose policy.proposal --yes; hsmkeys --token second approve policy.proposal --yes`,
		`hsmkeys quorum replace board --threshold 2 alice.pem carol.pem dave.pem`},
	{inQuorum + `; cp -a "$HSMKEYS_STORE" again; export HSMKEYS_STORE=$PWD/again
		hsmkeys quorum replace board --threshold 2 alice.pem bob.pem carol.pem --yes; hsmkeys rewrap`,
		`hsmkeys recover --quorum board --custodian alice --custodian bob --from owner.pem --to spare.pem --reason fire`},

	// age.
	{``, `hsmkeys age recipient payroll`},
	{``, `hsmkeys age recipient --pair`},
	{``, `hsmkeys age recipient --pair >recipient.txt`},
	{``, `age -R recipient.txt -o march.age march.ods`},
	{``, `hsmkeys age identity >identity.txt`},
	{`hsmkeys age recipient payroll >payroll.recipient; age -R payroll.recipient -o march.age march.ods`, `age -d -i identity.txt march.age`},

	// The agent.
	{``, `eval "$(hsmkeys agent --lock-after 15m)"`},
	{``, `hsmkeys agent status`},
	{``, `hsmkeys agent lock`},
	{``, `hsmkeys agent unlock`},
	{`hsmkeys agent lock`, `hsmkeys agent unlock --pin-source file:/run/secrets/pin`},
	{``, `hsmkeys agent stop`},
	{`printf '#!/bin/sh\nhsmkeys reveal payroll -o revealed\n' >nightly.sh; chmod +x nightly.sh`, `hsmkeys agent --allow reveal -- ./nightly.sh`},
	{`hsmkeys() { command hsmkeys "$@" & sleep 1; command hsmkeys agent stop; wait; }`, `hsmkeys agent --foreground --locked`},

	// Throw-away tokens.
	{`printf 'check:\n\thsmkeys token list | grep -q "$$HSMKEYS_SOFTHSM_OFFICE_SERIAL"\n' >Makefile`, `hsmkeys softhsm run -- make check`},
	{``, `hsmkeys softhsm run --tokens office,vault -- make check`},
	{`exec </dev/null`, `hsmkeys softhsm run --tokens office,vault,spare -- sh`},
	{`hsmkeys() { command hsmkeys softhsm run -- hsmkeys "$@"; }`, `hsmkeys softhsm lose office`},
	{`hsmkeys() { command hsmkeys softhsm run -- hsmkeys "$@"; }`, `hsmkeys softhsm restore office`},
	{`hsmkeys() { command hsmkeys softhsm run -- hsmkeys "$@"; }`, `hsmkeys softhsm break office --function C_Sign --after 100 --with CKR_DEVICE_REMOVED`},
	{`hsmkeys() { command hsmkeys softhsm run -- hsmkeys "$@"; }`, `hsmkeys softhsm break office --function C_Sign --with flip --once`},
	{`hsmkeys() { command hsmkeys softhsm run -- hsmkeys "$@"; }`, `hsmkeys softhsm break office --with hang`},
	{`hsmkeys() { command hsmkeys softhsm run -- hsmkeys "$@"; }`, `hsmkeys softhsm break office --function C_OpenSession --with CKR_DEVICE_ERROR --done`},

	// Tokens and pairs in other places.
	{``, `hsmkeys token list`},
	{``, `hsmkeys token list --module /usr/lib/softhsm/libsofthsm2.so --json`},
	{`fresh script`, `hsmkeys token init office --so-pin-source file:so-pin --pin-source file:pin`},
	{`fresh rsa; init_token`, `hsmkeys init`},
	{`fresh ec; init_token`, `hsmkeys init --key-type p384`},
	{`fresh card; init_token; hsmkeys init --pair-only --label 'KEY MAN key'`, `hsmkeys init --adopt 'pkcs11:object=KEY%20MAN%20key'`},
	{`fresh files; init_token
		openssl req -x509 -newkey rsa:2048 -nodes -keyout pair.pem -subj /CN=pair -out pair.crt
		openssl pkcs12 -export -inkey pair.pem -in pair.crt -passout file:pin -out pair.p12`,
		`hsmkeys token import-pair pair.p12`},
	{`fresh files; openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out pair.pem`, `hsmkeys token import-pair pair.pem --label old-server`},
	{`fresh files; openssl genrsa 1024 | openssl rsa -outform MSBLOB -out windows.blob`, `hsmkeys token import-pair --legacy windows.blob --label windows`},

	// CryptoAPI. The key has the check value of the example.
	{`fresh windows; init_token; hsmkeys init --key-type rsa2048; hsmkeys certificate --capi -o office.blob
		printf '\0\0\0\0\0\0\0\0\0\0\0\0\0\173\226\202' | simple '\016\146' >payroll.blob`,
		`hsmkeys import payroll --capi payroll.blob --check-value 0f1e2d`},
	{`fresh windows
		printf 'mail!' | simple '\002\146' >old.blob`,
		`hsmkeys import old-mail --capi old.blob --bits 40 --effective-bits 40 --salt 0000000000000000000000`},
	{``, `hsmkeys derive --capi --hash sha1 --algorithm 3des --encoding utf16le >old.key`},
	{`printf 'password\0' >password.bin`, `hsmkeys derive --capi --hash md5 --algorithm des --password-file password.bin --blob >old.blob`},

	// What needs no token.
	{`mkdir -p ~/.local/share/bash-completion/completions`, `hsmkeys completion bash >~/.local/share/bash-completion/completions/hsmkeys`},
	{`mkdir -p ~/.local/share; cp -a "$HSMKEYS_STORE" ~/.local/share/hsmkeys`, `hsmkeys store copy ~/.local/share/hsmkeys /media/disk/keyring`},
	{``, `hsmkeys store copy ~/.local/share/hsmkeys s3://example/keyring`},
	{``, `hsmkeys store sync ~/.local/share/hsmkeys /media/disk/keyring`},
	{``, `hsmkeys store sync /media/disk/keyring ~/.local/share/hsmkeys`},
	{`rm -r ~/.local/share/hsmkeys; fresh move; init_token; unset HSMKEYS_STORE; hsmkeys init --key-type p256; mv ~/.local/share/hsmkeys "$PWD/move/keyring"`,
		`hsmkeys --store /srv/keyring store move ~/.local/share/hsmkeys`},
	{`mkdir -p usr/local/share/zsh/site-functions`, `hsmkeys completion zsh >/usr/local/share/zsh/site-functions/_hsmkeys`},
	{`mkdir -p ~/.config/fish/completions`, `hsmkeys completion fish >~/.config/fish/completions/hsmkeys.fish`},
	{``, `hsmkeys version`},
	{``, `hsmkeys help token init`},
}

// inQuorum goes to the place of the quorum.
const inQuorum = `fresh quorum; cd quorum`

// aPoint is the checkpoint of the examples. The newest one takes its place.
const aPoint = "7:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

// stagePrelude are the functions of staged.
const stagePrelude = `
fresh() {
	mkdir -p "$1/tokens"
	printf 'directories.tokendir = %s\nobjectstore.backend = file\n' "$PWD/$1/tokens" >"$1/conf"
	export SOFTHSM2_CONF="$PWD/$1/conf" HSMKEYS_STORE="$PWD/$1/store" XDG_STATE_HOME="$PWD/$1/state"
}
# The newest checkpoint, N:DIGEST.
head_of_store() {
	newest=$(ls "$HSMKEYS_STORE"/state/0000000/* | tail -n 1)
	echo "$((10#${newest##*/})):$(sha256sum <"$newest" | cut -d ' ' -f 1)"
}
init_token() { hsmkeys token init office --so-pin-source file:so-pin; }
# A SIMPLEBLOB with the key on stdin, for the pair in office.blob.
simple() {
	openssl rsa -pubin -inform MSBLOB -in office.blob -pubout -out office.pub
	openssl pkeyutl -encrypt -pubin -inkey office.pub -out ciphertext
	printf "\\001\\002\\000\\000$1\\000\\000\\000\\244\\000\\000"
	od -An -v -tx1 -w1 ciphertext | tac | while read -r byte; do printf "\\$(printf %03o "0x$byte")"; done
}
`

// Every example does what it says, at a terminal where somebody types what is asked for.
func TestEveryExampleRuns(t *testing.T) {
	env, err := softhsm.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { env.Close() })
	ageDir, err := theAge()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, content := range map[string]string{"pin": testPIN, "so-pin": testSOPIN} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	environ := append(os.Environ(), env.Environ()...)
	environ = append(environ, "HSMKEYS_MODULE="+env.Module(), "HSMKEYS_TOKEN=office", "HSMKEYS_STORE="+filepath.Join(dir, "store"),
		"HSMKEYS_PIN_SOURCE=file:"+filepath.Join(dir, "pin"), "HSMKEYS_CONFIG=/dev/null", "HOME="+dir, "XDG_RUNTIME_DIR="+dir, "XDG_STATE_HOME="+filepath.Join(dir, "state"),
		"PATH="+ageDir+":"+os.Getenv("PATH"), "HSMKEYS_AUDIT=file:"+filepath.Join(dir, "audit.log"))
	server, err := s3test.New(t.Context(), s3test.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	if err := os.Mkdir(filepath.Join(server.Data(), "example"), 0o700); err != nil { // a bucket
		t.Fatal(err)
	}
	for name, value := range server.Environment() {
		environ = append(environ, name+"="+value)
	}
	here := strings.NewReplacer(
		"/usr/lib/softhsm/libsofthsm2.so", env.Module(),
		aPoint, "$(head_of_store)",
		"/mnt/copy", filepath.Join(dir, "mnt-copy"),
		"/media/disk", filepath.Join(dir, "disk"),
		"/srv/keyring", filepath.Join(dir, "move/keyring"),
		"/run/secrets/pin", filepath.Join(dir, "pin"),
		"/usr/local/share/zsh", filepath.Join(dir, "usr/local/share/zsh"))
	var ran []string
	for _, stage := range staged {
		p := newTerminal(t)
		cmd := exec.Command("bash", "-euo", "pipefail", "-c", stagePrelude+stage.before+"\n"+here.Replace(stage.line))
		cmd.Env, cmd.Dir = environ, dir
		p.attach(cmd)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if err := p.serve(t, cmd); err != nil {
			t.Fatalf("%s\n%s\n%v\n%s", stage.before, stage.line, err, p.shows())
		}
		ran = append(ran, stage.line)
	}
	checkRecords(t, filepath.Join(dir, "audit.log"))
	for path, all := range commandline.Examples {
		for _, e := range all {
			if !slices.Contains(ran, e.Line) {
				t.Errorf("the example %q of %q is not staged", e.Line, path)
			}
		}
	}
	for _, line := range ran {
		if !slices.ContainsFunc(allExamples(), func(e commandline.Example) bool { return e.Line == line }) {
			t.Errorf("%q is staged, and is no example", line)
		}
	}
}

func allExamples() (all []commandline.Example) {
	for _, some := range commandline.Examples {
		all = append(all, some...)
	}
	return all
}

// serve answers what is asked until the command ends: a secret where nothing is echoed,
// yes to every question.
func (p *pseudoTerminal) serve(t *testing.T, cmd *exec.Cmd) error {
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for answered := 0; ; {
		select {
		case err := <-ended:
			return err
		case <-time.After(5 * time.Millisecond):
		}
		shown := p.shows()
		typed := ""
		switch fresh := shown[answered:]; {
		case strings.HasSuffix(fresh, "[y/N] "):
			typed = "y\n"
		case strings.HasSuffix(fresh, ": ") && !p.echoes(t):
			typed = testPIN + "\n"
		default:
			continue
		}
		answered = len(shown)
		if _, err := p.person.WriteString(typed); err != nil {
			return err
		}
	}
}
