package doctor

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/store/dir"
	"github.com/hsmkeys/hsmkeys/blob/store/s3"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/hint"
	"github.com/hsmkeys/hsmkeys/cmd/internal/place"
	"github.com/hsmkeys/hsmkeys/cmd/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/internal/show"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
	"github.com/hsmkeys/hsmkeys/ledger"
	"github.com/hsmkeys/hsmkeys/token"
)

// store opens the store and checks its directory. It returns nil if there is none.
func (d *doctor) store() place.Store {
	path := d.s.StorePath()
	store, err := session.OpenStore(d.ctx, d.s)
	if err != nil {
		mend := ""
		if errors.Is(err, failure.ErrNoStore) {
			mend = "hsmkeys init"
		}
		d.failure("store", mend, err)
		return nil
	}
	_, err = store.Get(d.ctx, blob.SlotPath(1))
	d.founded = !errors.Is(err, blob.ErrNotFound)
	if err != nil && d.founded && place.IsBucket(path) && !errors.Is(err, blob.ErrIntegrity) {
		d.failure("store", "", fmt.Errorf("it cannot be read: %w", err))
		store.Close()
		return nil
	}
	d.tryWrite(path, store)
	switch store := store.(type) {
	case *dir.Store:
		look, err := store.Checkup(d.ctx)
		if err != nil {
			d.failure("leftovers", "", err)
			break
		}
		d.permissions(path, look)
		d.leftovers(path, look)
	case *s3.Store:
		d.bucketLeftovers(store)
	}
	return store
}

// tryWrite checks that the store can be written to.
func (d *doctor) tryWrite(path string, store place.Store) {
	err := store.TryWrite(d.ctx)
	var denied *s3.Denied
	switch {
	case errors.As(err, &denied) && denied.Deletes():
		d.warn("store", "", "%s: objects can be stored, each once, and not deleted, which destroy and store compact need: %v", text.Printable(path), err)
	case err != nil:
		d.failure("store", "", fmt.Errorf("it can be read, and nothing new can be stored: %w", err))
	case place.IsBucket(path):
		d.ok("store", "%s: of many writers of one object one has won, and it was read, listed and deleted", text.Printable(path))
	default:
		d.ok("store", "%s: a file was written, synced, put in its place and removed", text.Printable(path))
	}
}

// bucketLeftovers reports keys below the prefix that are not objects of the store.
func (d *doctor) bucketLeftovers(store *s3.Store) {
	look, err := store.Checkup(d.ctx)
	if err != nil {
		d.failure("leftovers", "", err)
		return
	}
	remove := func(key string) string { return "aws s3 rm " + text.ShellQuote(store.String()+"/"+key) }
	if n := len(look.Tried); n > 0 {
		d.warn("leftovers", remove(look.Tried[0]), "%s of trying the bucket, of an hour ago or longer, such as %q: they are ignored", text.Plural(n, "object", "objects"), look.Tried[0])
	}
	if n := len(look.Stray); n > 0 {
		d.warn("leftovers", "aws s3 mv "+text.ShellQuote(store.String()+"/"+look.Stray[0])+" ELSEWHERE",
			"%s that hsmkeys has not made, such as %q: they are ignored", text.Plural(n, "thing is in the store", "things are in the store"), look.Stray[0])
	}
	if len(look.Tried)+len(look.Stray) == 0 {
		d.ok("leftovers", "there is nothing in the store but its %s", text.Plural(look.Objects, "object", "objects"))
	}
}

// restore returns the command that restores the store, or a part of it, from a backup.
func (d *doctor) restore(part string) string {
	path := d.s.StorePath()
	if place.IsBucket(path) {
		return "aws s3 cp --recursive BACKUP/" + part + " " + text.ShellQuote(place.Same(path)+"/"+part)
	}
	if part != "" {
		return "cp -a BACKUP/" + part + "/. " + text.ShellQuote(filepath.Join(path, part))
	}
	return "cp -a BACKUP/. " + text.ShellQuote(path)
}

func (d *doctor) permissions(path string, look dir.Checkup) {
	if len(look.Open) == 0 {
		d.ok("permissions", "only its owner and group can write to the store")
		return
	}
	d.warn("permissions", "chmod -R o-w "+text.ShellQuote(path), "everybody can write to %s, such as %q: nobody can forge a key there, but anybody can delete one",
		text.Plural(len(look.Open), "file or directory of the store", "files and directories of the store"), filepath.Join(path, look.Open[0]))
}

func (d *doctor) leftovers(path string, look dir.Checkup) {
	if n := len(look.Unfinished); n > 0 {
		d.warn("leftovers", "find "+text.ShellQuote(path)+" -name '.tmp-*' -type f -mmin +60 -delete",
			"%s of an hour ago or longer, such as %q: a writer was interrupted; they are ignored", text.Plural(n, "unfinished file", "unfinished files"), look.Unfinished[0])
	}
	if n := len(look.Stray); n > 0 {
		d.warn("leftovers", "mv "+text.ShellQuote(filepath.Join(path, look.Stray[0]))+" ELSEWHERE",
			"%s that hsmkeys has not made, such as %q: they are ignored", text.Plural(n, "thing is in the store", "things are in the store"), look.Stray[0])
	}
	if len(look.Unfinished)+len(look.Stray) == 0 {
		d.ok("leftovers", "there is nothing in the store but its %s", text.Plural(look.Objects, "object", "objects"))
	}
}

// keyring opens the keyring, which verifies the list of members and compares it with the pin.
func (d *doctor) keyring(t *token.Token, pair *token.KeyPair, store place.Store) {
	k, err := d.open(pair, store)
	if err != nil {
		err = session.Explain(err)
		d.failure("keyring", d.keyringMend(err), err)
		d.skip("the keyring cannot be opened", afterKeyring[1:]...)
		return
	}
	s := k.State()
	d.sawSigned(s.Signed)
	d.ok("keyring", "keyring %s, checkpoint %d with list of members %d is verified; this token is %s %s", k.ID(), s.At.Number, s.List, k.Self().Role, text.Printable(k.Self().Label))
	for _, r := range s.Recoveries {
		d.fail("keyring", fmt.Sprintf("hsmkeys accept %v", r.At), "%s", session.RecoveryText(r))
	}
	d.pin(k)
	d.members(k)
	d.newestKeys(k)
}

// keyringMend returns the command for a keyring that cannot be opened, or "" if no single command
// helps.
func (d *doctor) keyringMend(err error) string {
	restore := d.restore("")
	var fork *ledger.Fork
	switch {
	case errors.Is(err, hsmkeys.ErrNotJoined):
		return "hsmkeys join --vouched-by CERTIFICATE"
	case errors.As(err, &fork) && !session.NotSigned(fork): // a copy of either side is in the store already
		return "hsmkeys join --replace-pin --checkpoint N:DIGEST"
	case fork != nil, errors.Is(err, ledger.ErrRollback), errors.Is(err, ledger.ErrIncomplete), errors.Is(err, hsmkeys.ErrOtherKeyring):
		return restore
	case errors.Is(err, blob.ErrNotFound):
		return "hsmkeys init --adopt"
	case errors.Is(err, blob.ErrIntegrity) && hint.For(err) == "": // damaged
		return restore
	}
	return ""
}

// pin reports where the checkpoint is pinned.
func (d *doctor) pin(k *hsmkeys.Keyring) {
	s := k.State()
	if s.Unpinned {
		d.fail("pin", "hsmkeys join --vouched-by CERTIFICATE", "there is none: an older state of the store would not be noticed, and nothing is encrypted or signed")
		return
	}
	place, err := k.PinPlace(d.ctx)
	switch {
	case err != nil:
		d.failure("pin", "", err)
	case place.Token == 0:
		d.ok("pin", "checkpoint %d is pinned in %s, and the token keeps no data objects: a user who can write there and to the store can restore an old state", place.File, text.Printable(place.Path))
	case place.File == 0:
		d.ok("pin", "checkpoint %d is pinned on the token", place.Token)
	default:
		d.ok("pin", "checkpoint %d is pinned in %s, and number %d on the token", place.File, text.Printable(place.Path), place.Token)
	}
}

// open opens the keyring and pins it, as any other command does. What is to be announced is among
// the findings.
func (d *doctor) open(pair *token.KeyPair, store place.Store) (*hsmkeys.Keyring, error) {
	o, err := session.Options(d.s, store)
	if err != nil {
		return nil, err
	}
	o.Pair, o.Pins = pair, session.Pins(pair.Records())
	return hsmkeys.Open(d.ctx, o)
}

// members checks that there is a backup authority, and that keys can be wrapped to every member.
func (d *doctor) members(k *hsmkeys.Keyring) {
	authorities := 0
	for _, m := range k.Members() {
		command := "owner"
		if m.Role == blob.BackupAuthority {
			command = "authority"
			authorities++
		}
		d.validity(d.warn, "members", fmt.Sprintf("the certificate of %s %s", m.Role, text.Printable(m.Label)),
			"keys are still wrapped to it, but once removed it is not taken again", d.renewal(k, m, command), m.Certificate, time.Now())
		if m.Quorum != nil {
			d.quorum(k, m)
		}
	}
	if authorities == 0 {
		d.warn("members", "hsmkeys authority add CERTIFICATE", "there is no backup authority: when the token is lost, every key and all data under it are lost")
	}
}

// newestKeys verifies the newest version of each key; verify does all versions.
func (d *doctor) newestKeys(k *hsmkeys.Keyring) {
	good, bad := 0, 0
	var missing, open []string
	var first error
	var states keyStates
	for e, err := range k.List(d.ctx) {
		if err == nil {
			if states.add(e, time.Now()); e.Status == ledger.Destroyed.String() {
				continue
			}
			var shown hsmkeys.Entry
			if shown, err = k.Show(d.ctx, hsmkeys.Ref{Name: e.Name, Version: e.Version}); err == nil {
				e = shown
			}
		}
		if err != nil {
			if bad++; first == nil {
				first = err
			}
			continue
		}
		good++
		d.sawSigned(e.Signed)
		if who := withoutKey(k, e); who != "" {
			missing = append(missing, fmt.Sprintf("%s: %s", show.Version(e), who))
		}
		if former := e.Former(); len(former) > 0 {
			open = append(open, fmt.Sprintf("%s: %s", show.Version(e), former[0].Label))
		}
	}
	d.holders(k, good, missing, open)
	d.states(k, states)
	if bad > 0 {
		mend := d.restore("keys")
		if errors.Is(first, ledger.ErrIncomplete) { // it is the state that lacks something
			mend = d.restore("")
		}
		d.fail("signatures", mend, "the newest version of %s not hold, of %d: %v; hsmkeys verify names them all, and restore them from a backup",
			text.Plural(bad, "key does", "keys do"), good+bad, first)
		return
	}
	d.ok("signatures", "the newest version of each key is verified, %s; hsmkeys verify does all versions", text.Plural(good, "key", "keys"))
	d.unknown(k)
}

// holders reports members that lack keys, and former members that can still open them.
func (d *doctor) holders(k *hsmkeys.Keyring, good int, missing, open []string) {
	if len(missing) > 0 {
		d.warn("holders", d.ownersCommand(k, "rewrap"), "%s not wrapped to every member, such as %q: the other members cannot open it", text.Plural(len(missing), "key is", "keys are"), missing[0])
	}
	if len(open) > 0 {
		d.warn("holders", d.ownersCommand(k, "rotate --former"), "%s open to a former member, such as %q, who can read what is encrypted under it from now on; a rewrapped key is still the same key",
			text.Plural(len(open), "key is", "keys are"), open[0])
	}
	if len(missing)+len(open) == 0 && good > 0 {
		d.ok("holders", "the newest version of each stored key that is verified is wrapped to every member that can hold it, and to nobody else")
	}
}

// unknown counts the blobs that are not in the state of the keyring.
func (d *doctor) unknown(k *hsmkeys.Keyring) {
	unknown, destroyed, err := k.CountUnnamed(d.ctx)
	switch {
	case err != nil:
		d.failure("blobs", "", err)
	case unknown > 0:
		d.warn("blobs", "", "%s", show.Unknown(unknown))
	}
	if destroyed > 0 {
		d.warn("blobs", "", "%s", show.Leftover(destroyed))
	}
}

// renewal returns the command that replaces a member's expiring certificate, or "": this token's
// own pair cannot be removed with it, nor the last owner.
func (d *doctor) renewal(k *hsmkeys.Keyring, m blob.Member, command string) string {
	if _, err := k.MayRemove(m.Role, m.Label); err != nil {
		return ""
	}
	return fmt.Sprintf("hsmkeys %s remove %s && hsmkeys %s add CERTIFICATE && hsmkeys rewrap", command, text.ShellQuote(m.Label), command)
}

// ownersCommand returns a command for an owner, which an authority's token cannot carry out.
func (d *doctor) ownersCommand(k *hsmkeys.Keyring, command string) string {
	if k.Self().Role != blob.Owner {
		return "hsmkeys --token OWNER " + command
	}
	return "hsmkeys " + command
}

// withoutKey returns the label of a member to whom a key is not wrapped, or "".
func withoutKey(k *hsmkeys.Keyring, e hsmkeys.Entry) string {
	if e.Password != "" {
		return "" // it is wrapped to nobody
	}
	who := slices.Concat(e.Holders, e.Unable) // for whom rewrap can do something is somebody else
	for _, m := range show.Members(k) {
		if !slices.ContainsFunc(who, func(h hsmkeys.Holder) bool { return h.SubjectKeyID == m.SubjectKeyID }) {
			return m.Label
		}
	}
	return ""
}

// blobs parses every signed object. It needs no token, and does not verify signatures.
func (d *doctor) blobs(store place.Store) {
	good, bad := 0, 0
	var first error
	for _, prefix := range []string{blob.CheckpointsPrefix, blob.MembersPrefix, blob.KeysPrefix} {
		for path, err := range store.List(d.ctx, prefix) {
			if err == nil {
				err = d.parse(store, path)
			}
			if err == nil {
				good++
				continue
			}
			if !errors.Is(err, blob.ErrIntegrity) && !errors.Is(err, blob.ErrNotFound) && path == "" { // it cannot be listed
				d.failure("blobs", "", err)
				return
			}
			if bad++; first == nil {
				first = fmt.Errorf("%q: %w", path, err)
			}
		}
	}
	if bad > 0 {
		d.fail("blobs", d.restore(""), "%s damaged, of %d, the first %v; restore them from a backup", text.Plural(bad, "object is", "objects are"), good+bad, first)
		return
	}
	if good == 0 {
		d.ok("blobs", "there are none yet")
		return
	}
	d.ok("blobs", "%s well-formed, with the digests that their names say; hsmkeys verify checks every signature", text.Plural(good, "object is", "objects are"))
}

// parse reads and parses one object, and compares its digest with its name.
func (d *doctor) parse(store place.Store, path string) error {
	der, err := store.Get(d.ctx, path)
	if err != nil {
		return err
	}
	switch kind, _, _ := strings.Cut(path, "/"); kind + "/" {
	case blob.MembersPrefix:
		_, err = blob.ParseMembers(der)
	case blob.CheckpointsPrefix:
		_, err = blob.ParseCheckpoint(der)
	default:
		_, err = blob.Parse(der)
	}
	if err == nil && !blob.HasDigest(path, der) {
		err = fmt.Errorf("it has another digest than its name says: %w", blob.ErrMisplaced)
	}
	return err
}
