package commandline

import (
	"strings"
)

// An Example is a command line, and what it is for.
type Example struct{ What, Line string }

// ExamplesOf returns the examples of a command by its full name. Help and the manual pages show
// them. Tests check each against the existing options, and run it.
func ExamplesOf(path string) []Example {
	return Examples[strings.TrimPrefix(strings.TrimPrefix(path, "hsmkeys"), " ")]
}

// Examples are the examples by the name of the command, without the name of the program.
var Examples = map[string][]Example{
	"": {
		{"A token, its pair and a keyring", "hsmkeys --module /usr/lib/softhsm/libsofthsm2.so token init office"},
		{"", "hsmkeys --module /usr/lib/softhsm/libsofthsm2.so --token office init"},
		{"A session key, and a file under it", "hsmkeys create payroll"},
		{"", "hsmkeys encrypt --key payroll -o march.age march.ods"},
		{"", "hsmkeys decrypt -o march.ods march.age"},
	},
	"token": {
		{"Which tokens are there?", "hsmkeys token list"},
	},
	"token list": {
		{"The tokens of all modules that p11-kit knows", "hsmkeys token list"},
		{"Those of one module, for a program", "hsmkeys token list --module /usr/lib/softhsm/libsofthsm2.so --json"},
	},
	"token init": {
		{"Both PINs are asked for, twice each", "hsmkeys --module /usr/lib/softhsm/libsofthsm2.so token init office"},
		{"In a script", "hsmkeys token init office --so-pin-source file:so-pin --pin-source file:pin"},
	},
	"token import-pair": {
		{"A pair from PKCS #12; its password is asked for", "hsmkeys token import-pair pair.p12"},
		{"From PKCS #8, under another label", "hsmkeys token import-pair pair.pem --label old-server"},
		{"The pair of a Windows 2000 machine, to open what was exported to it", "hsmkeys token import-pair --legacy windows.blob --label windows"},
	},
	"init": {
		{"An RSA pair of 3072 bits, and the keyring", "hsmkeys init"},
		{"An EC pair", "hsmkeys init --key-type p384"},
		{"Use the pair that a smart card has already", "hsmkeys init --adopt 'pkcs11:object=KEY%20MAN%20key'"},
		{"For a token that will join another's keyring", "hsmkeys --token vault init --pair-only"},
	},
	"join": {
		{"A backup authority joins; the fingerprint is shown, and has to be confirmed", "hsmkeys --token vault join --vouched-by owner.pem"},
		{"With the checkpoint that another member has read out", "hsmkeys --token vault join --checkpoint 7:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"},
		{"The newest state is lost: continue from the one that another member has", "hsmkeys join --replace-pin --checkpoint 7:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"},
	},
	"accept": {
		{"The checkpoint is in the warning; the recovery is shown, and has to be confirmed", "hsmkeys accept 7:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"},
	},
	"checkpoint": {
		{"The state of the keyring in one line, for another member to compare", "hsmkeys checkpoint"},
		{"A new one, signed now, for members that refuse an old state", "hsmkeys checkpoint --fresh"},
	},
	"certificate": {
		{"Keep a copy outside the store", "hsmkeys certificate -o owner.pem"},
		{"The public key alone, for a CryptoAPI peer", "hsmkeys certificate --capi -o owner.blob"},
	},
	"create": {
		{"A key for files", "hsmkeys create payroll"},
		{"A key that another application loads, in a group of its own", "hsmkeys create site-b/audit --algorithm hmac-sha256"},
		{"A key from a password", "hsmkeys create archive --from-password --kdf pbkdf2"},
		{"Several at once, which are due to be rotated after 90 days", "hsmkeys create site-b/db site-b/web --description 'backups' --rotate-every 90d"},
		{"A key that encrypts until the end of a year", "hsmkeys create season --expires 2027-12-31"},
	},
	"describe": {
		{"What is it for?", "hsmkeys describe payroll 'salaries, since 2026'"},
		{"From now on it is due every 90 days, and encrypts for a year", "hsmkeys describe payroll --rotate-every 90d --expires 365d"},
	},
	"rename": {
		{"Files that name the old one still open", "hsmkeys rename season seasons/2027 --reason 'one a year'"},
	},
	"deactivate": {
		{"A key that encrypts nothing more", "hsmkeys deactivate site-b/web --reason 'the site has closed'"},
		{"All keys of a group", "hsmkeys deactivate site-b/"},
	},
	"activate": {
		{"And encrypts again", "hsmkeys activate site-b/web"},
	},
	"compromised": {
		{"Others may have it", "hsmkeys compromised site-b/db --reason 'disk stolen'"},
		{"One version", "hsmkeys compromised payroll@1 --reason 'disk stolen'"},
	},
	"destroy": {
		{"What is encrypted under it is lost; this is shown, and has to be confirmed", "hsmkeys destroy site-b/db --reason 'retention ends'"},
		{"What would be destroyed?", "hsmkeys destroy site-b/ --reason 'retention ends' --dry-run"},
	},
	"files": {
		{"What is encrypted under a key that leaked?", "hsmkeys files --under payroll@1 archive"},
	},
	"reencrypt": {
		{"A file, under the newest version of its key", "hsmkeys reencrypt march.age"},
		{"All files under an old version", "hsmkeys files --under payroll@1 -0 . | xargs -0 hsmkeys reencrypt"},
	},
	"rotate": {
		{"From now on encrypt uses a new key; what is encrypted stays readable", "hsmkeys rotate payroll"},
		{"A key from a password gets a new one", "hsmkeys rotate archive --new-password"},
		{"Every key that a former member can open", "hsmkeys rotate --former"},
		{"In a monthly job: the keys that are due", "hsmkeys rotate --due --reason monthly"},
		{"All keys of a group", "hsmkeys rotate site-b/"},
	},
	"list": {
		{"All keys, as they were signed", "hsmkeys list"},
		{"Every version of the keys of a group", "hsmkeys list site-b/ --all-versions"},
		{"What is due? Status 1 if anything is", "hsmkeys list --due"},
		{"The oldest keys, and what they are for", "hsmkeys list --sort created --columns name,age,description"},
		{"For a program, one key a line", "hsmkeys list 'site-*/db' --jsonl"},
		{"What has been loaded onto the token?", "hsmkeys list --loaded"},
		{"Without a token", "hsmkeys list --certificate owner.pem"},
	},
	"show": {
		{"The newest version", "hsmkeys show payroll"},
		{"The first, for a program", "hsmkeys show payroll@1 --json"},
	},
	"history": {
		{"When was it rotated, and who signed?", "hsmkeys history payroll"},
	},
	"verify": {
		{"Every signature", "hsmkeys verify"},
		{"Those of one key, on a machine that has no token", "hsmkeys verify payroll --certificate owner.pem"},
	},
	"log": {
		{"What became of a key?", "hsmkeys log payroll"},
		{"All that was done in the last 30 days, for a program", "hsmkeys log --since 30d --json"},
	},
	"encrypt": {
		{"A file", "hsmkeys encrypt --key payroll -o march.age march.ods"},
		{"A pipe", "tar c archive | hsmkeys encrypt --key payroll >archive.tar.age"},
		{"As text, for a mail", "hsmkeys encrypt -a -k payroll march.ods >march.asc"},
		{"Either of two keys opens it", "hsmkeys encrypt -k payroll -k audit -o march.age march.ods"},
	},
	"decrypt": {
		{"A file; it names its key", "hsmkeys decrypt -o march.ods march.age"},
		{"A pipe", "hsmkeys decrypt archive.tar.age | tar x"},
	},
	"file": {
		{"Which key does a file need?", "hsmkeys file info march.age"},
	},
	"file info": {
		{"Which key does a file need?", "hsmkeys file info march.age"},
		{"And who holds it, as the store has it?", "hsmkeys file info march.age --certificate owner.pem"},
	},
	"load": {
		{"As a token object for another PKCS #11 application", "hsmkeys load site-b/audit --label audit-mac"},
		{"The new version in the place of the old one, after rotate", "hsmkeys load site-b/audit --label audit-mac --replace"},
	},
	"unload": {
		{"Every version of a key", "hsmkeys unload site-b/audit"},
		{"Whichever key has this label", "hsmkeys unload --label audit-mac"},
	},
	"reveal": {
		{"A key for a LUKS volume", "hsmkeys reveal volumes/home | cryptsetup open --key-file - /dev/sdb1 home"},
		{"In a file that nobody else can read, as openssl expects it", "hsmkeys reveal payroll --hex -o payroll.hex"},
	},
	"export": {
		{"The key blob, for tools that read CMS", "hsmkeys export payroll --cms -o payroll.cms"},
		{"A SIMPLEBLOB for a CryptoAPI peer", "hsmkeys export payroll --capi --to peer.pem -o payroll.blob"},
	},
	"import": {
		{"A session key that a CryptoAPI program has exported to this token's pair", "hsmkeys import payroll --capi payroll.blob --check-value 0f1e2d"},
		{"An RC2 key of Windows 2000", "hsmkeys import old-mail --capi old.blob --bits 40 --effective-bits 40 --salt 0000000000000000000000"},
	},
	"derive": {
		{"Open what a Windows program has encrypted with a password", "hsmkeys derive --capi --hash sha1 --algorithm 3des --encoding utf16le >old.key"},
		{"A password that has a final zero, and a key with Windows' parity bits", "hsmkeys derive --capi --hash md5 --algorithm des --password-file password.bin --blob >old.blob"},
	},
	"authority": {
		{"Who could recover the keys?", "hsmkeys authority list"},
	},
	"authority add": {
		{"Its fingerprint is shown, and has to be confirmed", "hsmkeys authority add vault.pem"},
		{"And the existing keys", "hsmkeys rewrap"},
		{"Where two owners have to agree", "hsmkeys authority add vault.pem --propose vault.proposal"},
	},
	"authority list": {
		{"Who could recover the keys?", "hsmkeys authority list"},
	},
	"authority remove": {
		{"No new key is wrapped to it; existing keys get versions that it cannot open", "hsmkeys authority remove vault --rotate"},
	},
	"owner": {
		{"Who opens the keys, and signs?", "hsmkeys owner list"},
	},
	"owner add": {
		{"A second token, under a label of its own", "hsmkeys owner add second.pem --label second"},
		{"A smart card, one pair of which encrypts and another signs", "hsmkeys owner add card.pem --signing-certificate card-signing.pem"},
	},
	"owner list": {
		{"Without a token", "hsmkeys owner list --certificate owner.pem"},
	},
	"owner remove": {
		{"Nothing that it signs from now on is trusted; keys that it could open get new versions", "hsmkeys owner remove second --rotate"},
	},
	"rewrap": {
		{"All keys, to the current members", "hsmkeys rewrap"},
		{"Only some", "hsmkeys rewrap payroll site-b/audit"},
	},
	"drill": {
		{"What would be lost with a token?", "hsmkeys drill"},
		{"With the authority's token: does it really open them?", "hsmkeys --token vault drill --prove --sample 20 --html report.html"},
		{"And does the whole recovery work? With a key that is made for this", "hsmkeys --token vault drill --rehearse"},
		{"In a nightly job", "hsmkeys drill --certificate owner.pem --strict --proof-age 90d --junit drill.xml"},
	},
	"recover": {
		{"With the authority's token, to the new owner", "hsmkeys --token vault recover --from owner.pem --to spare.pem --reason 'fire in room 3'"},
		{"In a script, which has compared the fingerprints", "hsmkeys --token vault recover --from owner.pem --to spare.pem --reason fire --yes"},
		{"With two custodians of a quorum, who are here", "hsmkeys recover --quorum board --custodian alice --custodian bob --from owner.pem --to spare.pem --reason fire"},
		{"With what custodians far away have approved", "hsmkeys recover --request request.pem --approval alice.approval --approval bob.approval"},
	},
	"quorum": {
		{"Who are the custodians?", "hsmkeys quorum list"},
	},
	"quorum create": {
		{"Any two of three custodians can recover; their fingerprints are shown, and have to be confirmed", "hsmkeys quorum create board --threshold 2 alice.pem bob.pem carol.pem"},
	},
	"quorum replace": {
		{"Bob has left, dave has come", "hsmkeys quorum replace board --threshold 2 alice.pem carol.pem dave.pem"},
	},
	"quorum list": {
		{"Without a token", "hsmkeys quorum list --certificate owner.pem"},
	},
	"quorum check": {
		{"The first time, with the owner's certificate", "hsmkeys --token alice quorum check --vouched-by owner.pem"},
		{"And every few months", "hsmkeys --token alice quorum check"},
	},
	"quorum request": {
		{"On the machine that will recover", "hsmkeys quorum request board --from owner.pem --to spare.pem --reason 'fire in room 3' -o request.pem"},
	},
	"quorum approve": {
		{"Both owners are shown, and have to be confirmed", "hsmkeys --token alice quorum approve request.pem -o alice.approval"},
	},
	"policy": {
		{"Who may recover, and who may change the members?", "hsmkeys policy"},
		{"Only a quorum recovers", "hsmkeys policy --recovery quorum-only"},
		{"An owner proposes what another one approves", "hsmkeys policy --changes two-owners"},
	},
	"approve": {
		{"As the second owner; the change is shown, and has to be confirmed", "hsmkeys --token second approve vault.proposal"},
	},
	"merge": {
		{"A copy that was written to as well; both are shown, and have to be confirmed", "hsmkeys merge /mnt/copy"},
	},
	"store": {
		{"Every change leaves a few kilobytes: delete what only old states need", "hsmkeys store compact"},
	},
	"store compact": {
		{"Keep what tokens need that have looked within the last 100 changes", "hsmkeys store compact --keep 100"},
	},
	"store copy": {
		{"For an authority whose token is kept offline, on a disk that goes there", "hsmkeys store copy ~/.local/share/hsmkeys /media/disk/keyring"},
		{"Into a bucket, from which more machines use it from now on", "hsmkeys store copy ~/.local/share/hsmkeys s3://example/keyring"},
	},
	"store sync": {
		{"What has changed since", "hsmkeys store sync ~/.local/share/hsmkeys /media/disk/keyring"},
		{"The proofs of the authority come back", "hsmkeys store sync /media/disk/keyring ~/.local/share/hsmkeys"},
	},
	"store move": {
		{"The store was moved from its usual place", "hsmkeys --store /srv/keyring store move ~/.local/share/hsmkeys"},
	},
	"age": {
		{"A file to the key exchange pair, by age itself", "hsmkeys age recipient --pair"},
	},
	"age recipient": {
		{"What sops and others over age encrypt with", "hsmkeys age recipient payroll"},
		{"Of the pair itself; to encrypt to it takes no token", "hsmkeys age recipient --pair >recipient.txt"},
		{"", "age -R recipient.txt -o march.age march.ods"},
	},
	"age identity": {
		{"A file without secrets, with which age decrypts", "hsmkeys age identity >identity.txt"},
		{"", "age -d -i identity.txt march.age"},
	},
	"agent": {
		{"Log in once for this shell", `eval "$(hsmkeys agent --lock-after 15m)"`},
		{"For a script, which may also reveal keys", "hsmkeys agent --allow reveal -- ./nightly.sh"},
		{"For a service manager", "hsmkeys agent --foreground --locked"},
	},
	"agent status": {
		{"Is it locked, and why?", "hsmkeys agent status"},
	},
	"agent lock": {
		{"On leaving the desk", "hsmkeys agent lock"},
	},
	"agent unlock": {
		{"The PIN is asked for", "hsmkeys agent unlock"},
		{"In a script", "hsmkeys agent unlock --pin-source file:/run/secrets/pin"},
	},
	"agent stop": {
		{"End it", "hsmkeys agent stop"},
	},
	"softhsm": {
		{"A test suite with two throw-away tokens", "hsmkeys softhsm run --tokens office,vault -- make check"},
	},
	"softhsm run": {
		{"A test suite, in whatever language, with a token", "hsmkeys softhsm run -- make check"},
		{"A shell to try things in", "hsmkeys softhsm run --tokens office,vault,spare -- sh"},
	},
	"softhsm lose": {
		{"The token is pulled out", "hsmkeys softhsm lose office"},
	},
	"softhsm restore": {
		{"And put back", "hsmkeys softhsm restore office"},
	},
	"softhsm break": {
		{"After 100 signatures the token is gone for good", "hsmkeys softhsm break office --function C_Sign --after 100 --with CKR_DEVICE_REMOVED"},
		{"The next signature is wrong, and only that", "hsmkeys softhsm break office --function C_Sign --with flip --once"},
		{"Whatever is done now hangs", "hsmkeys softhsm break office --with hang"},
		{"A session is opened, and the answer is lost", "hsmkeys softhsm break office --function C_OpenSession --with CKR_DEVICE_ERROR --done"},
	},
	"doctor": {
		{"Check everything", "hsmkeys doctor"},
		{"In a nightly job: status 1 if a check fails", "hsmkeys doctor --json --pin-source file:/run/secrets/pin"},
	},
	"completion": {
		{"For bash", "hsmkeys completion bash >~/.local/share/bash-completion/completions/hsmkeys"},
		{"For every user of zsh", "hsmkeys completion zsh >/usr/local/share/zsh/site-functions/_hsmkeys"},
		{"For fish", "hsmkeys completion fish >~/.config/fish/completions/hsmkeys.fish"},
	},
	"version": {
		{"For a bug report", "hsmkeys version"},
	},
	"help": {
		{"All about one command", "hsmkeys help token init"},
	},
}
